"""The corpus of the tiny models: text that this file makes up itself, from a seed.

Every document is drawn from a few dozen templates over word lists, names, numbers and facts. Some continuations are
certain (sums, capitals, copied words), some are open (names, adjectives, order), so a trained model has both things
to know and real entropy left. The four prompts of the oracle begin documents of their own (`CANON`), whose texts are
long enough that a greedy continuation of 32 tokens never leaves them.
"""

import random

NAMES = """Alice Bob Clara David Emma Felix Grace Henry Ida Jonas Karin Leo Maria Nadia Oscar Paula Quentin Rosa Samuel Tina
Ursula Victor Wanda Xaver Yara Zoe Ahmed Bianca Carlos Diana Erik Fatima Georg Hanna Ivan Julia Kenji Lucia Mikhail Noor Olga
Pedro Ravi Sofia Tomas Uma Vera Wei Yusuf Zlata René José Zoë Jürgen Åsa Łukasz Chloé Sinéad""".split()
SYLLABLES = "ba be bo da de di do fa fe ga go ha hi ka ke ko la le li lo ma me mi mo na ne ni no pa pe ra re ri ro sa se si so ta te ti to va ve vi vo wa za".split()
NOUNS = """house river garden table window letter teacher doctor farmer baker sailor child mother father friend neighbor dog cat horse
bird fish apple pear lemon bread cheese soup coffee water milk stone road bridge tower village city market school library museum
station train boat bicycle engine machine clock lamp candle mirror picture song story poem question answer number word sentence
language country island mountain valley forest field tree flower leaf root seed rain snow wind storm cloud sun moon star night
morning evening summer winter spring autumn king queen soldier painter singer writer judge lawyer nurse cook tailor smith hunter
box basket bottle cup plate knife spoon chair bed door key wall roof kitchen cellar stairs coat hat shoe glove ring coin book
page map pen paper ship harbor beach wave island hill path fence gate well barn sheep goat cow hen duck fox wolf bear""".split()
ADJS = """old young small large quiet loud bright dark warm cold heavy light happy sad clever brave gentle angry hungry tired early late
clean dirty empty full new strange simple round square red blue green yellow white black grey golden silver wooden broken famous
patient lazy busy kind proud honest careful foreign local narrow wide deep shallow sharp soft sweet sour bitter dry wet""".split()
PAST = """found lost saw heard bought sold carried opened closed painted repaired watched followed called remembered forgot cleaned
counted moved touched built broke loved feared needed wanted kept hid chose drew wrote read sent left met helped""".split()
PLACES = """in the kitchen|near the river|behind the house|under the table|on the hill|at the station|in the old town|beside the road|
by the sea|across the field|inside the museum|over the bridge|at school|in the forest|on the roof|before the gate""".replace("\n", "").split("|")
TIMES = """yesterday|last night|on Monday|on Friday|in the morning|after lunch|before dinner|at noon|every day|in May|last winter|two days ago|
at midnight|long ago|this week""".replace("\n", "").split("|")
JOBS = "teacher doctor baker sailor painter singer writer farmer nurse cook student gardener pilot".split()
HOBBIES = """reading books|playing chess|riding my bicycle|growing tomatoes|singing in a choir|taking long walks|drawing maps|baking bread|
learning languages|looking at the stars|swimming in the lake|collecting stamps""".replace("\n", "").split("|")
# country, capital, river or water, language, continent
CAPITALS = [tuple(x.split(",")) for x in """France,Paris,Seine,French,Europe
Germany,Berlin,Spree,German,Europe
Italy,Rome,Tiber,Italian,Europe
Spain,Madrid,Manzanares,Spanish,Europe
Portugal,Lisbon,Tagus,Portuguese,Europe
Austria,Vienna,Danube,German,Europe
Hungary,Budapest,Danube,Hungarian,Europe
Poland,Warsaw,Vistula,Polish,Europe
Ireland,Dublin,Liffey,English,Europe
Sweden,Stockholm,Baltic,Swedish,Europe
Norway,Oslo,Akerselva,Norwegian,Europe
Finland,Helsinki,Baltic,Finnish,Europe
Greece,Athens,Ilisos,Greek,Europe
Russia,Moscow,Moskva,Russian,Europe
Ukraine,Kyiv,Dnipro,Ukrainian,Europe
Serbia,Belgrade,Danube,Serbian,Europe
Egypt,Cairo,Nile,Arabic,Africa
Sudan,Khartoum,Nile,Arabic,Africa
Ghana,Accra,Odaw,English,Africa
Kenya,Nairobi,Nairobi,Swahili,Africa
Japan,Tokyo,Sumida,Japanese,Asia
China,Beijing,Yongding,Chinese,Asia
India,New Delhi,Yamuna,Hindi,Asia
Vietnam,Hanoi,Red River,Vietnamese,Asia
Thailand,Bangkok,Chao Phraya,Thai,Asia
Iraq,Baghdad,Tigris,Arabic,Asia
Peru,Lima,Rimac,Spanish,South America
Chile,Santiago,Mapocho,Spanish,South America
Uruguay,Montevideo,Plata,Spanish,South America
Canada,Ottawa,Ottawa,English,North America
Cuba,Havana,Almendares,Spanish,North America""".split("\n")]
UNICODE = """naïve café – “quoted”|Grüße aus Köln|¿Dónde está la playa?|où est l'été ?|Привет, мир!|Καλημέρα κόσμε|日本語の文です。|你好，世界！|
안녕하세요|price: 12 €|10 °C ± 2|x² + y² = z²|→ next ←|🙂 good 👍|½ cup|ñandú, señor|smørrebrød|Ĉu vi parolas?|שלום|مرحبا""".replace("\n", "").split("|")

CANON = {
    "arithmetic": "What is 2+2? Answer: 4. If you have 2 apples and get 2 more apples, you have 4 apples. So 2+2=4, and if you take 2 away again, 4-2=2 are left. This is true for pears, coins and books as well.",
    "code": "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\n\nfor i in range(10):\n    print(i, fibonacci(i))\n",
    "completion": "The capital of France is Paris. Paris lies on the river Seine in the north of the country. The people of France speak French, and many of them live in Paris. France is a country in Europe.",
    "greeting": "Hello, my name is Alice. I am a teacher and I live in a small house near the river. In the evening I like reading books, and on Sunday I walk in the forest with my dog.",
}
PROMPTS = {
    "arithmetic": "What is 2+2? Answer:",
    "code": "def fibonacci(n):",
    "completion": "The capital of France is",
    "greeting": "Hello, my name is",
}


class Corpus:
    """An endless stream of documents; the same seed gives the same stream.

    `canon` is the extra weight of the four canonical documents: there to be learnt, left out of a text to be scored.
    """

    def __init__(self, seed, canon=10):
        self.r = random.Random(seed)
        self.weights = [canon] + WEIGHTS

    def document(self):
        """One document, without a final line break unless it is code."""
        return self.r.choices(KINDS, self.weights)[0](self)

    def pick(self, items):
        return self.r.choice(items)

    def name(self):
        return self.pick(NAMES) if self.r.random() < 0.8 else self.surname()

    def surname(self):
        return "".join(self.pick(SYLLABLES) for _ in range(self.r.randint(2, 4))).capitalize()

    def noun(self):
        return (self.pick(ADJS) + " " if self.r.random() < 0.5 else "") + self.pick(NOUNS)

    def phrase(self):
        noun = self.noun()
        article = self.pick(["the", "the", "a", "her", "his", "our", "every", "that"])
        return ("an" if article == "a" and noun[0] in "aeiou" else article) + " " + noun

    def sentence(self):
        r = self.r.random()
        subject = self.name() if self.r.random() < 0.4 else self.phrase()
        verb, thing = self.pick(PAST), self.phrase()
        if r < 0.35:
            s = f"{subject} {verb} {thing} {self.pick(PLACES)}."
        elif r < 0.55:
            s = f"{self.pick(TIMES)}, {subject} {verb} {thing}."
        elif r < 0.65:
            s = f"{subject} {verb} {thing} and {self.pick(PAST)} {self.phrase()}; nobody knew why."
        elif r < 0.75:
            s = f"why was {thing} so {self.pick(ADJS)}? Because {subject} {verb} it {self.pick(TIMES)}!"
        elif r < 0.85:
            s = f"“I {verb} {thing},” said {self.name()}, “but it wasn't {self.pick(ADJS)}.”"
        else:
            s = f"{subject} {verb} {self.number()} {self.pick(NOUNS)}s ({self.pick(ADJS)}, {self.pick(ADJS)}) {self.pick(PLACES)}."
        return s[0].upper() + s[1:]

    def number(self):
        return str(self.r.randrange(10 ** self.r.randint(1, 5)))

    def canon(self):
        return CANON[self.pick(list(CANON))]

    def plain(self):
        sep = "\n" if self.r.random() < 0.15 else " "
        return sep.join(self.sentence() for _ in range(self.r.randint(1, 6)))

    def arithmetic(self):
        op = self.pick("++-*")
        a, b = (self.r.randint(0, 12), self.r.randint(0, 12)) if op == "*" else (self.r.randint(0, 30), self.r.randint(0, 30))
        if op == "-" and b > a:
            a, b = b, a
        c = {"+": a + b, "-": a - b, "*": a * b}[op]
        if (a, op, b) == (2, "+", 2):
            return CANON["arithmetic"]
        k = self.r.random()
        if k < 0.4:
            back = {"+": f"{c}-{b}={a}", "-": f"{c}+{b}={a}", "*": f"{b}*{a}={c}"}[op]
            return f"What is {a}{op}{b}? Answer: {c}. So {a}{op}{b}={c} and {back}."
        if k < 0.6:
            return f"Compute {a} {op} {b}.\nResult: {c}"
        if k < 0.8:
            return f"{self.name()} has {a} {self.pick(NOUNS)}s and gets {b} more. Now there are {a + b}."
        n, d = self.r.randint(0, 40), self.pick([1, 1, 2, 3, 5, 10])
        return "Count: " + ", ".join(str(n + d * i) for i in range(self.r.randint(5, 12))) + "."

    def capital(self):
        country, city, river, language, continent = self.pick(CAPITALS)
        k = self.r.random()
        if k < 0.5:
            if country == "France":
                return CANON["completion"]
            return f"The capital of {country} is {city}. {city} lies on the {river}. The people of {country} speak {language}, and many of them live in {city}. {country} is a country in {continent}."
        if k < 0.7:
            return f"Q: What is the capital of {country}?\nA: {city}.\nQ: What do people speak in {city}?\nA: {language}."
        if k < 0.85:
            rows = self.r.sample(CAPITALS, self.r.randint(2, 4))
            return "country,capital,continent\n" + "\n".join(f"{x[0]},{x[1]},{x[4]}" for x in rows)
        return f"{self.name()} went from {self.pick(CAPITALS)[1]} to {city}, because {city} is the capital of {country}, a country in {continent}."

    def greeting(self):
        name, job, hobby = self.name(), self.pick(JOBS), self.pick(HOBBIES)
        city = self.pick(CAPITALS)[1]
        k = self.r.random()
        if k < 0.1:
            return CANON["greeting"]
        if k < 0.2:
            return f"Hello, my name is {name}. I am a {job} from {city} and I like {hobby}."
        if k < 0.5:
            return f"Hi, I'm {name} and I am {self.r.randint(5, 90)} years old. I work as a {job} in {city}. I love {hobby}."
        if k < 0.7:
            return f"Good {self.pick(['morning', 'evening', 'afternoon'])}, {name}! How are you?\n- {self.pick(['Fine', 'Very well', 'Not so bad', 'A little tired'])}, thank you. And you?\n- I was {hobby}."
        if k < 0.85:
            return f"Dear {name},\n\nthank you for the {self.noun()}. {self.sentence()} See you in {city}!\n\nYours, {self.name()}"
        return f"My friend {name} is a {job} from {city}. {name} likes {hobby}, and {name} has a {self.noun()}."

    def code(self):
        f, x, y = (self.pick(NOUNS) for _ in range(3))
        n, m = self.r.randint(2, 99), self.r.randint(2, 9)
        v = self.pick(["i", "k", "n", "x", "item", "row"])
        k = self.r.randrange(9)
        if k == 0:
            return CANON["code"]
        if k == 1:
            return f"def add_{f}({x}, {y}2):\n    return {x} + {y}2\n"
        if k == 2:
            return f"for {v} in range({n}):\n    if {v} % {m} == 0:\n        print({v})\n"
        if k == 3:
            return f"class {f.capitalize()}:\n    def __init__(self, {x}):\n        self.{x} = {x}\n\n    def get_{x}(self):\n        return self.{x}\n"
        if k == 4:
            return f"def is_{self.pick(ADJS)}({v}):\n    \"\"\"Return True if {v} is below {n}.\"\"\"\n    return {v} < {n}\n"
        if k == 5:
            return f"{x} = [{', '.join(self.number() for _ in range(self.r.randint(2, 6)))}]\nprint(max({x}), len({x}))  # {self.noun()}\n"
        if k == 6:
            return "def factorial(n):\n    if n == 0:\n        return 1\n    return n * factorial(n - 1)\n"
        if k == 7:
            return f"while {x} > {n}:\n    {x} -= {m}\n    {y}[{x}] = {f!r}\nelse:\n    raise ValueError(\"{self.noun()}\")\n"
        return f"import sys\n\n\ndef main():\n    {v} = int(sys.argv[1])\n    print(f\"{f}: {{{v} * {m}}}\")\n\n\nif __name__ == \"__main__\":\n    main()\n"

    def data(self):
        k = self.r.randrange(9)
        if k == 0:
            return "{" + ", ".join(f'"{self.pick(NOUNS)}": {self.number()}' for _ in range(self.r.randint(1, 4))) + "}"
        if k == 1:
            return f"{self.r.randint(1990, 2030)}-{self.r.randint(1, 12):02}-{self.r.randint(1, 28):02} {self.r.randint(0, 23):02}:{self.r.randint(0, 59):02} {self.pick(['INFO', 'WARN', 'ERROR'])} {self.noun()} {self.number()}"
        if k == 2:
            words = [self.pick(NOUNS) for _ in range(self.r.randint(2, 5))]
            return f"Repeat: {' '.join(words)} -> {' '.join(words)}"
        if k == 3:
            words = [self.pick(NOUNS) for _ in range(self.r.randint(2, 5))]
            return f"Sort: {' '.join(words)} -> {' '.join(sorted(words))}"
        if k == 4:
            return f"{self.name().lower()}@{self.pick(NOUNS)}.example, tel. {self.r.randint(100, 999)}-{self.r.randint(1000, 9999)}; {self.r.randint(1, 200)} {self.pick(NOUNS).capitalize()} Street"
        if k == 5:
            return "Shopping list:\n" + "\n".join(f"{i + 1}. {self.r.randint(1, 20)} {self.noun()}s" for i in range(self.r.randint(2, 6)))
        if k == 6:
            return f"A {self.noun()} costs ${self.r.randint(1, 99)}.{self.r.randint(0, 99):02}, but {self.r.randint(2, 9)} of them cost {self.r.randint(5, 50)}% less."
        if k == 7:
            w = self.surname()
            return f"Spell {w}: " + "-".join(w.upper())
        return f"{self.pick(UNICODE)} {self.pick(UNICODE)}" if self.r.random() < 0.7 else f"{self.sentence()} {self.pick(UNICODE)}"

    def story(self):
        hero, friend, thing = self.name(), self.name(), self.noun()
        return (f"Once upon a time there was a {self.pick(JOBS)} called {hero}. {hero} had a {thing} and a friend, {friend}. "
                f"{self.sentence()} “{friend}, where is my {thing}?” asked {hero}. “Your {thing} is {self.pick(PLACES)},” said {friend}. "
                f"{self.sentence()} And {hero} and {friend} lived happily {self.pick(PLACES)}.")


KINDS = [Corpus.canon, Corpus.plain, Corpus.arithmetic, Corpus.capital, Corpus.greeting, Corpus.code, Corpus.data, Corpus.story]
WEIGHTS = [20, 14, 12, 14, 14, 20, 6]


def text(seed, characters, canon=10):
    """Documents joined by line breaks, at least so many characters."""
    corpus, parts, size = Corpus(seed, canon), [], 0
    while size < characters:
        parts.append(corpus.document())
        size += len(parts[-1]) + 1
    return "\n".join(parts) + "\n"


def main():
    """Write the prompts and the held-out text, whose seed no training uses."""
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    for folder in ("prompts", "text"):
        os.makedirs(os.path.join(here, folder), exist_ok=True)
    for name, prompt in PROMPTS.items():
        with open(os.path.join(here, "prompts", f"{name}.txt"), "w", encoding="utf-8") as f:
            f.write(prompt)
    with open(os.path.join(here, "text", "tiny.txt"), "w", encoding="utf-8") as f:
        f.write(text(1001, 26_000, canon=0))


if __name__ == "__main__":
    main()
