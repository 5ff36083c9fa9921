import torch
def _a(p,valid):
    p=p.movedim(1,-1); p=p.reshape(-1,p.shape[-1]) if valid is None else p[valid]
    hard=torch.bincount(p.argmax(1),minlength=p.shape[1])
    return p.mean(0),hard
def area_too_large(p,maximum,valid=None):
    a,_=_a(p,valid); return ((a-maximum).relu()**2).sum()/maximum**2
def area_too_small(p,minimum,valid=None,grow=True):
    a,h=_a(p,valid); return ((minimum-a).relu()**2*(h>0)).sum()/minimum**2
