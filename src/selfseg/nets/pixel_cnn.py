"""temp"""
import torch
from torch import nn
class PixelCNN(nn.Module):
    def __init__(self,in_channels,n_features=100,n_out=100,n_convolutions=2,n_dims=2):
        super().__init__()
        conv=nn.Conv2d if n_dims==2 else nn.Conv3d
        self.n_dims=n_dims
        self.convs=nn.ModuleList(conv(in_channels if i==0 else n_features,n_features,3,padding=1) for i in range(n_convolutions))
        self.last=conv(n_features,n_out,1)
        ch=[n_features]*n_convolutions+[n_out]
        self.gain=nn.ParameterList(torch.ones(c) for c in ch); self.shift=nn.ParameterList(torch.zeros(c) for c in ch)
        for i,c in enumerate(ch):
            self.register_buffer(f"mean{i}",torch.zeros(c)); self.register_buffer(f"var{i}",torch.ones(c))
    def _norm(self,h,i,valid):
        sh=(1,-1)+(1,)*self.n_dims
        if self.training:
            x=h.movedim(1,-1)
            x=x[valid] if valid is not None else x.reshape(-1,h.shape[1])
            m,v=x.mean(0),x.var(0,unbiased=False)
        else: m,v=getattr(self,f"mean{i}"),getattr(self,f"var{i}")
        out=(h-m.view(sh))/(v.view(sh)+1e-5).sqrt()*self.gain[i].view(sh)+self.shift[i].view(sh)
        return out if valid is None else out*valid[:,None]
    def forward(self,x,valid=None,upto=None):
        h=x
        for i,c in enumerate(self.convs):
            h=torch.relu(c(h))
            if upto==i: return h
            h=self._norm(h,i,valid)
        h=self.last(h)
        if upto==len(self.convs): return h
        return self._norm(h,len(self.convs),valid)
    @torch.no_grad()
    def calibrate(self,batches):
        self.eval()
        for i in range(len(self.convs)+1):
            n=0;s=0;q=0
            for x,valid in batches():
                h=self.forward(x,valid,upto=i).movedim(1,-1).double()
                h=h[valid] if valid is not None else h.reshape(-1,h.shape[-1])
                n+=len(h); s=s+h.sum(0); q=q+(h*h).sum(0)
            m=s/n
            getattr(self,f"mean{i}").copy_(m); getattr(self,f"var{i}").copy_((q/n-m*m).clamp(min=0))
