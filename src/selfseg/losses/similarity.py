import torch.nn.functional as F
def similarity(response,target=None,valid=None):
    if target is None: target=response.argmax(1)
    l=F.cross_entropy(response,target,reduction='none')
    return l.mean() if valid is None else (l*valid).sum()/valid.sum().clamp(min=1)
