"""Personal API keys: what a person's programs show instead of a token.

`texts` is how one looks, `scopes` what one may do, `records` are the rows, and `reading`
decides whom one speaks for. A key acts as its owner, within its scopes and until it ends.
"""
