"""Networks and their layers: ``[B C *S] -> [B K *S]``."""
