"""Parts of segjax that are not in segjax; `config.py` beside this package names them."""
