"""What ELIZA says: the rules after Joseph Weizenbaum's idea (1966), in words of our own.

Data only. A rule has a pattern, looked for in one sentence of the person, and answers
that take turns; `{0}` is the first group of the pattern, said back from the other side.
Earlier rules win.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INTRODUCTION = (
    "Before we start: I am `chatkeep/eliza`, a small program in the manner of the ELIZA of 1966,"
    " not a language model. I answer because no API key is configured on this server; set"
    " `OPENROUTER_API_KEY` or `OPENAI_API_KEY` and a real model takes my place.\n\n"
)

#: How a phrase is turned around when it is said back.
REFLECTIONS = {
    "i am": "you are",
    "i was": "you were",
    "i": "you",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "am": "are",
    "i'm": "you are",
    "i've": "you have",
    "i'll": "you will",
    "i'd": "you would",
    "you are": "I am",
    "you were": "I was",
    "you": "me",
    "your": "my",
    "yours": "mine",
    "yourself": "myself",
    "you're": "I am",
    "you've": "I have",
    "you'll": "I will",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a sentence matches *pattern*, one of *answers* is due."""

    pattern: re.Pattern[str]
    answers: tuple[str, ...]


def _rule(pattern: str, *answers: str) -> Rule:
    return Rule(pattern=re.compile(pattern, re.IGNORECASE), answers=answers)


#: At the end of a phrase that is said back; no regular expression here backtracks over it.
_REST = r"\s+(\S[^.!?]*)"

RULES = (
    _rule(
        r"\b(?:are you|you are|you're) (?:a |an )?(?:human|person|real|robot|bot|computer|program"
        r"|machine|ai|chatgpt|gpt|eliza)\b",
        "I am a program of a few hundred lines. Does it matter to you who listens?",
        "Only a program, and an old-fashioned one. What did you hope I would be?",
        "There is nobody behind the curtain here. Would you speak differently to a person?",
    ),
    _rule(
        r"\b(?:code|markdown|snippet|python)\b",
        "I cannot program, but I know one by heart:\n\n```python\n"
        "def listen(sentence: str) -> str:\n"
        '    """Say it back, from the other side."""\n'
        '    return sentence.replace("I", "you")\n```\n\n'
        "It is **most** of what I do. What would you have it do instead?",
        "Here is a list of what I can offer:\n\n1. *patience*,\n2. `questions`,\n3. a story, if you"
        " ask for one.\n\nWhich do you need today?",
    ),
    _rule(
        r"\b(?:sorry|apologi[sz]e)\b",
        "No apology is needed. What made you feel that one was?",
        "You have done nothing wrong here. Please go on.",
    ),
    _rule(
        r"\b(?:thanks|thank you)\b",
        "You are welcome. What else is on your mind?",
        "Gladly. Did saying it aloud change how it looks?",
    ),
    _rule(
        r"\b(?:goodbye|bye|see you|good night)\b",
        "Goodbye. What we said here will still be here when you return.",
        "Until next time. I keep nothing to myself, but the conversation is kept for you.",
    ),
    _rule(
        r"^\s*(?:hello|hi|hey|good (?:morning|evening|afternoon))\b",
        "Hello. What would you like to talk about?",
        "Good to hear from you. How has the day treated you so far?",
        "Hello again. Shall we pick up where we were?",
    ),
    _rule(
        r"\bi remember" + _REST,
        "What brings {0} back to you now?",
        "And what else do you see when you remember {0}?",
    ),
    _rule(
        r"\bi (?:dreamt|dreamed|dream)\b(?: of| about| that)?" + _REST,
        "You dreamt of {0}. Which part of that have you met while awake?",
        "When you woke from {0}, what was the first thing you felt?",
    ),
    _rule(
        r"\bi (?:need|want|would like|wish)" + _REST,
        "Suppose you had {0}. What would be different tomorrow morning?",
        "What stands between you and {0}?",
        "How long have you been looking for {0}?",
    ),
    _rule(
        r"\bi(?: am|'m) (?:so |very |really |a bit |feeling )?"
        r"(sad|unhappy|depressed|lonely|tired|afraid|anxious|worried|angry|stressed|bored)\b",
        "I am sorry to hear that you are {0}. When did it begin?",
        "What does being {0} keep you from doing?",
        "If a friend told you they were {0}, what would you say to them?",
    ),
    _rule(
        r"\bi(?: am|'m) (?:so |very |really |feeling )?"
        r"(happy|glad|excited|proud|relieved|grateful)\b",
        "That is good to hear. What made you {0}?",
        "Being {0} is worth a closer look. What part of it was your own doing?",
    ),
    _rule(
        r"\bi(?: am|'m)" + _REST,
        "How long have you been {0}?",
        "What is it like to be {0}?",
        "Do you tell other people that you are {0}?",
    ),
    _rule(
        r"\bi feel" + _REST,
        "When did you last feel {0}?",
        "What usually happens after you feel {0}?",
    ),
    _rule(
        r"\bi (?:can't|cannot|could not|couldn't)" + _REST,
        "What would happen if you could {0}?",
        "Was there a time when you were able to {0}?",
    ),
    _rule(
        r"\bi (?:don't|do not) know\b",
        "If you did know, what might the answer be?",
        "Not knowing is a fine place to begin. What would you like to find out first?",
    ),
    _rule(
        r"\bi (?:think|believe|guess|suppose)(?: that)?" + _REST,
        "How sure are you that {0}?",
        "Who would disagree that {0}?",
    ),
    _rule(
        r"\bbecause" + _REST,
        "Is that the whole reason?",
        "If it were not because {0}, what else could it be?",
    ),
    _rule(
        r"\b(mother|mum|mom|father|dad|sister|brother|wife|husband|partner|son|daughter|family|friend"
        r"|boss|colleague|cat|dog)\b",
        "Tell me more about your {0}.",
        "What would your {0} say if they were reading this?",
        "How are things between you and your {0} today?",
    ),
    _rule(
        r"\b(work|job|school|exam|deadline|project|money|office)\b",
        "What part of the {0} weighs most?",
        "If the {0} vanished overnight, what would you do with the day?",
    ),
    _rule(
        r"\b(?:what|who) are you\b|\byour name\b",
        "I am `chatkeep/eliza`: a listener made of rules. And who is asking?",
        "My name is ELIZA, after a program that is older than most of its readers.",
    ),
    _rule(
        r"\b(?:can|could|would|will) you" + _REST,
        "Whether I can {0} is quickly answered: hardly. What would it give you if I could?",
        "Suppose I did {0}. What would you do next?",
    ),
    _rule(
        r"\bwhy (?:don't|do not) you" + _REST,
        "Perhaps I will {0} one day. What would that change for you?",
        "Is it important to you that I {0}?",
    ),
    _rule(
        r"\byou(?: are|'re)" + _REST,
        "Does it help you to believe that I am {0}?",
        "Perhaps I am {0}. Who else is?",
    ),
    _rule(
        r"\byou" + _REST,
        "We were speaking of you, not of me. But why do you say that I {0}?",
        "What makes you think I {0}?",
    ),
    _rule(
        r"\bmy" + _REST,
        "Your {0}: what comes to mind first?",
        "When you think of your {0}, is it with joy or with worry?",
    ),
    _rule(
        r"^\s*(?:why|how|what|when|where|who|which)\b",
        "What answer would please you most?",
        "Have you put that question to anybody else?",
        "What have you tried already to find out?",
        "I only have questions of my own. What makes this one urgent?",
    ),
    _rule(
        r"^\s*(?:yes|yeah|yep|sure|of course|ok|okay)\b",
        "You seem certain. What makes you so?",
        "Good. And what follows from it?",
    ),
    _rule(
        r"^\s*(?:no|nope|never|not really)\b",
        "Why not?",
        "A clear no. Has it always been one?",
    ),
    _rule(
        r"\b(always|never|everybody|nobody|everyone|no one)\b",
        "Can you think of one exception to that “{0}”?",
        "“{0}” is a large word. When was the last time?",
    ),
)

#: When no rule fits.
FALLBACKS = (
    "Please go on.",
    "I see. What does that mean to you?",
    "Let us stay with that for a moment. What is the hardest part of it?",
    "And how did that come about?",
    "Say that again in other words, as if to somebody who was not there.",
    "What would you like to be different?",
)

#: When a rule fits nothing now, but the person said something personal before.
MEMORIES = (
    "Earlier you mentioned your {0}. Does that have to do with this?",
    "Let us go back: you spoke of your {0}. What became of it?",
)

SILENCE = "You have not said anything yet. Take your time."
