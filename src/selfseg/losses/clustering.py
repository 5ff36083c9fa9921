from selfseg.losses.similarity import similarity
def clustering_terms(response,valid=None):
    labels=response.argmax(1)
    con=[]
    for d in range(2,response.ndim):
        n=response.shape[d]
        if n==1: con.append(response.sum()*0); continue
        diff=(response.narrow(d,1,n-1)-response.narrow(d,0,n-1)).abs().mean(1)
        if valid is None: con.append(diff.mean())
        else:
            v=valid.narrow(d-1,1,n-1)&valid.narrow(d-1,0,n-1); con.append((diff*v).sum()/v.sum().clamp(min=1))
    return similarity(response,labels,valid),tuple(con),labels
