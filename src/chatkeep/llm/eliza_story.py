"""A long story for whoever asks ELIZA for one, so that stopping and resuming can be tried.

The same request gets the same story; other words in the request give another one.
"""

from __future__ import annotations

import random
import re
import zlib

_DEFAULT_WORDS = 600
_FEWEST_WORDS = 420
_MOST_WORDS = 3000

_ASKED_FOR = re.compile(
    r"\b(?:story|tale|essay|poem|novel|long (?:text|answer|reply|message)|words)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\b(\d{2,5})[ -]?words?\b", re.IGNORECASE)

_FIRST_LETTER = re.compile(r"(?:^|(?<=[.!?] )|(?<=[.!?]\" ))[a-z]")

_HEROES = ("Marta", "Old Tobias", "Ines", "the lamplighter", "young Amrit", "the ferryman's aunt")
#: As they are called at first, and from then on.
_PLACES = (
    ("a harbour town", "the town"),
    ("a village above the clouds", "the village"),
    ("a city of bridges", "the city"),
    ("a quiet valley", "the valley"),
)
_THINGS = (
    ("a brass key", "the key"),
    ("an unsigned letter", "the letter"),
    ("a clock without hands", "the clock"),
    ("a jar of blue sand", "the jar"),
)
_WEATHERS = (
    "It had rained for nine days",
    "The first frost lay on the roofs",
    "Fog stood in the streets",
)


def _paragraphs(text: str) -> list[str]:
    """Split at blank lines; within a paragraph, line ends are only layout."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


_OPENINGS = _paragraphs("""
In {a_place} there lived somebody whom everybody called {hero}. {weather}, and nobody expected
anything of that morning, least of all the one it was about to happen to. On the doorstep,
wrapped in yesterday's newspaper, lay {a_thing}.

{weather} when {hero} found {a_thing} under the third step of the stairs. In {a_place} things were
not simply found: somebody always knew whose they were. This time nobody did, and that was how
it began.
""")
_CHAPTERS = _paragraphs("""
The baker was asked first, because bakers are awake when others sleep. She turned {thing} over
in her floury hands, held it against the light, and gave it back without a word. Only when
{hero} was already at the door did she say: "My grandmother had one like it. She said that it
was borrowed."

At the archive they kept a book for questions that nobody had answered yet. {hero} signed line
four hundred and twelve, read the four hundred and eleven above it, and recognised two of them.
Both had been asked by children. Both were about {thing}, although neither used that name for
it.

That night there was a knock at the window. Outside stood a boy with a lantern, who wanted to
know whether it was true. {hero} asked what he had heard, and he told a story that was better
than the real one, with a shipwreck in it and a dog that could count to seven. It seemed unkind
to correct him.

The road out of {place} leads past a mill that grinds nothing any more. Its wheel turns all the
same, for the pleasure of it, the miller says. He listened to the whole account, from the
doorstep to the lantern, and then he laughed until he had to sit down. "You have carried it all
this way," he said, "and you never once asked it where it wanted to go."

So they made a plan, which was unusual, and kept to it, which had never happened before. One
half of the town would look up and the other half would look down, and whoever noticed anything
was to ring the small bell and not the large one. By noon the small bell had rung eleven times:
nine sparrows, one kite, and once a cloud that resembled the mayor.

{hero} slept badly and dreamt of a staircase that went on after the house had ended. On every
landing stood somebody with a question, and every question was easy, and the answers were all
the same word. In the morning the word was gone, but the ease of it stayed, like the warmth of a
stone that has been in the sun.

A letter came from the coast. It was written in green ink and contained no greeting. "If it is
warm to the touch," it said, "put it down. If it is cold, do not. If you cannot tell, you have
been holding it too long." {hero} read it three times, looked at both hands, and could not tell.

There is a custom in {place} that nobody defends and nobody gives up: on the last day of the
month each household puts one thing it does not need in front of the door. That evening {thing}
lay among chipped cups and single gloves, and people walked around it. In the morning the cups
and the gloves were gone.

The schoolteacher made a lesson of it. Forty children wrote down what they would do, and she
pinned the pages to the wall by the harbour, where the wind read them first. Thirty-nine would
have sold it. The fortieth, in letters of very different sizes, would have given it a name.

It was {hero} who noticed, in the end, that the marks on {thing} were not scratches but a map,
and that the map was of no country: it showed the veins of a hand. Laid against the right palm,
they matched. Laid against the left, they matched as well, and that was the part that took some
getting used to.

Years later people would say that they had known all along. They had not. They had argued about
the price of herring, mended nets, missed the ferry and forgiven one another for it, and in
between, without anybody deciding so, they had begun to leave their doors unlocked.

On the bridge {hero} met a stranger who was counting the planks aloud. At two hundred and six
she stopped. "One too many," she said, "there has been one too many since the spring. You will
have it with you, I suppose." And she held out her hand as if the matter had been settled a long
time ago.
""")
_ENDINGS = _paragraphs("""
What became of {thing}? It is where you would look last. {hero} passes it every day and nods,
and on certain mornings, when the light is right, it is said to nod back. That is all there is
to tell, and the rest is yours to make up.

So {hero} put {thing} back where it had been found, wrapped in a newer newspaper, and went in to
make coffee. Somebody else would open the door tomorrow. In {place} that is what is called a
happy ending.
""")


def asks_for_story(text: str) -> bool:
    """Whether the person wants something long."""
    return bool(_ASKED_FOR.search(text) or _NUMBER.search(text))


def tell_story(text: str) -> str:
    """Tell the story that *text* asks for: as long as it says, from 420 to about 3000 words."""
    dice = random.Random(zlib.crc32(text.encode("utf-8", "replace")))  # noqa: S311 -- chooses words, guards nothing
    a_place, place = dice.choice(_PLACES)
    a_thing, thing = dice.choice(_THINGS)
    cast = {
        "hero": dice.choice(_HEROES),
        "weather": dice.choice(_WEATHERS),
        "a_place": a_place,
        "place": place,
        "a_thing": a_thing,
        "thing": thing,
    }
    parts = [f"## {_title(cast)}", _told(dice.choice(_OPENINGS), cast)]
    ending = _told(dice.choice(_ENDINGS), cast)
    wanted = _words_wanted(text) - len(ending.split())
    chapters: list[str] = []
    while sum(len(part.split()) for part in parts) < wanted:
        chapters = chapters or dice.sample(_CHAPTERS, len(_CHAPTERS))
        parts.append(_told(chapters.pop(), cast))
    return "\n\n".join([*parts, ending])


def _words_wanted(text: str) -> int:
    numbers = _NUMBER.search(text)
    asked = int(numbers[1]) if numbers else _DEFAULT_WORDS
    return max(_FEWEST_WORDS, min(_MOST_WORDS, asked))


def _title(cast: dict[str, str]) -> str:
    hero, thing = cast["hero"], cast["a_thing"]
    return f"{hero[0].upper()}{hero[1:]} and {thing}"


def _told(template: str, cast: dict[str, str]) -> str:
    told = template.format(**cast)
    # A name may open a sentence, also after one that ended in quotation marks.
    return _FIRST_LETTER.sub(lambda letter: letter[0].upper(), told)
