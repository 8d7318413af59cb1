"""Chatkeep: the signed-in back end of a chat application.

Importing the package starts nothing and reads no setting; see `chatkeep.cli` for the
server and `chatkeep.web.app` for the application to mount elsewhere.
"""

__version__ = "0.1.0"
