"""Pages on this machine's own address: who may ask, how they are served, and the annotation page."""
