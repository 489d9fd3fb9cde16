"""Prompts of so many tokens, and lengths from a distribution. The same seed gives the same ones."""
import json
import random

from serving.wire import Refusal

WORDS = ("the a of and to in is that it for on with as was at by from this have or one had not but what all were when we there can an your which "
         "their said if will each about how up out them then she many some so these would other into has more her two like him see time could no "
         "make than first been its who now people my made over did down only way find use may water long little very after called just where most "
         "know get through back much before go good new write our used me man too any day same right look think also around another came come work "
         "three word must because does part even place well such here take why help put years different away again off went old number great tell "
         "men say small every found still between name should home big give air line set own under read last never us left end along while might "
         "next sound below saw something thought both few those always looked show large often together asked house world going want school "
         "important until form food keep children feet land side without boy once animals life enough took sometimes four head above kind began "
         "almost live page got earth need far hand high year mother light parts country father let night following picture being study second "
         "eyes soon times story boys since white days ever paper hard near sentence better best across during today others however sure means knew "
         "try told young miles sun ways thing whole hear example heard several change answer room sea against top turned learn point city play "
         "toward five using himself usually").split()


class Lengths:
    """"100", "uniform:LEAST:MOST" or "lognormal:MEDIAN:SIGMA[:MOST]" tokens."""

    def __init__(self, text):
        kind, *numbers = text.split(":") if ":" in text else ("fixed", text)
        try:
            self.numbers = [float(one) for one in numbers]
        except ValueError:
            self.numbers = []
        counts = {"fixed": (1,), "uniform": (2,), "lognormal": (2, 3)}
        if len(self.numbers) not in counts.get(kind, ()) or min(self.numbers) < 0 or self.numbers[0] < 1:
            raise Refusal(f"{text}: lengths look like 100, uniform:10:200 or lognormal:100:0.8 (median, sigma), with :MOST behind it")
        self.kind, self.text = kind, text

    def draw(self, dice):
        first = self.numbers[0]
        if self.kind == "fixed":
            return int(first)
        if self.kind == "uniform":
            return dice.randint(int(first), max(int(first), int(self.numbers[1])))
        most = self.numbers[2] if len(self.numbers) == 3 else 64 * first
        return max(1, int(min(most, first * dice.lognormvariate(0, self.numbers[1]))))


class Texts:
    """Texts of words, whose tokens the server counts; where it cannot, a word counts as a token."""

    def __init__(self, endpoint):
        self.endpoint, self.tokens_a_word, self.counted = endpoint, 1.0, True

    async def count(self, text):
        if not self.counted:
            return len(text.split())
        status, body = await self.endpoint.ask("POST", "/tokenize", {"content": text})
        try:
            tokens = json.loads(body)["tokens"] if status == 200 else None
        except (ValueError, KeyError, TypeError):
            tokens = None
        if tokens is None:
            self.counted = False
            return len(text.split())
        return len(tokens)

    async def of(self, tokens, dice):
        """A text of about `tokens` tokens: to one word, where the server counts."""
        words = [dice.choice(WORDS) for _ in range(max(1, round(tokens / self.tokens_a_word)))]
        for _ in range(6):
            have = await self.count(" ".join(words))
            self.tokens_a_word = max(0.1, have / len(words)) if len(words) > 50 else self.tokens_a_word
            more = round((tokens - have) / self.tokens_a_word)
            if more == 0:
                break
            words = words[:more] or words[:1] if more < 0 else words + [dice.choice(WORDS) for _ in range(more)]
        return " ".join(words)


def dice_of(*parts):
    """A generator of its own for each purpose, so that one draw more in one place changes nothing elsewhere."""
    return random.Random("/".join(map(str, parts)))
