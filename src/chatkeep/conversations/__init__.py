"""Conversations and their messages: the records, and the SQL that reads and writes them.

Messages form a tree: an edit or a new answer is a sibling, never a replacement. A
conversation's `head_id` names the end of the branch that is shown. Every function acts as
the one user it names; another person's conversation and one that never existed are the
same `NotYourConversation`.

What is done with whole conversations is in modules of its own: `search`, `sharing`, `forking`
and `imports`.
"""

from chatkeep.conversations.changes import (
    delete,
    holding,
    purge_deleted,
    rename,
    restore,
    show_branch,
    start_conversation,
)
from chatkeep.conversations.lists import (
    FIRST_PAGE,
    list_by_id,
    list_conversations,
    search_titles,
)
from chatkeep.conversations.pages import get_page, get_whole, list_fitting, list_messages
from chatkeep.conversations.places import (
    BRANCH_AT_MOST,
    AnswerShown,
    Home,
    Place,
    branch_ids,
    find_answer,
    find_homes,
    find_place,
)
from chatkeep.conversations.records import Conversation, Message, Role, Status

__all__ = [
    "BRANCH_AT_MOST",
    "FIRST_PAGE",
    "AnswerShown",
    "Conversation",
    "Home",
    "Message",
    "Place",
    "Role",
    "Status",
    "branch_ids",
    "delete",
    "find_answer",
    "find_homes",
    "find_place",
    "get_page",
    "get_whole",
    "holding",
    "list_by_id",
    "list_conversations",
    "list_fitting",
    "list_messages",
    "purge_deleted",
    "rename",
    "restore",
    "search_titles",
    "show_branch",
    "start_conversation",
]
