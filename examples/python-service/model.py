"""A model of words: it counts which word follows which two in a text, and goes on from a prompt by these counts.

Small enough to be read, real enough to have a temperature, a seed and a length."""

import collections
import random
import re

ORDER = 2
SENTENCES = 4
TOKEN = re.compile(r" \w+(?:'\w+)?|[^\w\s]")

TEXT = """
The river begins as a thread of water between two stones. Rain falls on the hill, and the hill lets it go slowly, so
that the river has water when there is no rain. In spring the river is loud and brown. In summer it is quiet and
clear, and children build dams of stones in it. The river does not mind; it waits behind the dam until it is high
enough, and then it goes over the stones. Below the village there is a mill. The mill takes as much water as its wheel
can use and not more, and what it does not use goes on to the sea. When the miller is tired he lets the gate down, and
the water waits in the pond. When he comes back he lifts the gate, and the wheel goes on where it was. Nothing of the
water is lost. Boats go down the river with wood and come up the river with salt. A boat that is in a hurry is no
faster than the river. At night the river is black, and the lamps of the village stand in it. The ferryman says that
the river is never the same and that it is always the river. He has seen it rise over the road, and he has seen it so
low that the stones of the old bridge came out of the water. In the end the river is wide and slow. It does not say
where it stops and where the sea begins. The sea takes all the water that comes, from the river and from the rain, and
the rain falls on the hill.
"""


def tokens_of(text):
    return TOKEN.findall(" " + " ".join(text.split()))


class Model:
    def __init__(self, text=TEXT):
        words = tokens_of(text)
        # The text is a circle: whatever was said, there is a word that goes on.
        circle = words + words[:ORDER]
        self.following = collections.defaultdict(collections.Counter)
        for length in range(ORDER + 1):
            for at in range(len(words)):
                self.following[tuple(circle[at:at + length])][circle[at + length]] += 1

    def generate(self, prompt, temperature=1.0, seed=None, endless=False):
        """Yields tokens. An answer has a few sentences, unless it is endless. The same seed gives the same answer."""
        chance, said, sentences = random.Random(seed), tokens_of(prompt)[-ORDER:], 0
        # The answer to a question is not the rest of it.
        if not said or not said[-1].strip().isalnum():
            said = ["."]
        while sentences < SENTENCES or endless:
            token = self._next(said, temperature, chance)
            said = [*said, token][-ORDER:]
            sentences += token == "."
            yield token

    def _next(self, said, temperature, chance):
        # What was never seen after two words may have been seen after one, or anywhere.
        known = next(tuple(said[at:]) for at in range(len(said) + 1) if tuple(said[at:]) in self.following)
        counts = self.following[known]
        if temperature == 0:
            return max(counts, key=counts.get)
        top = max(counts.values())
        return chance.choices(list(counts), [(count / top) ** (1 / temperature) for count in counts.values()])[0]
