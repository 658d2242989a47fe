"""Names, colours and sizes as different people put them, and the sentences they stand in; see `sentences`.

A "-" in a list is the empty word: nothing is said of the size of what is of medium size, for example.
"""

from __future__ import annotations


def as_list(text: str) -> tuple[str, ...]:
    """The words between commas."""
    return tuple("" if word == "-" else word for word in text.split(", "))


SUBJECTS = {
    "tiger": as_list("tiger cub, tiger cat, striped cat, striped tiger"),
    "rabbit": as_list("bunny, hare, bunny rabbit"),
    "octopus": as_list("kraken, octopus with many arms, eight-armed octopus"),
    "snail": as_list("garden snail, slug with a shell, snail with a shell"),
    "penguin": as_list("emperor penguin, antarctic bird, penguin bird"),
    "whale": as_list("sperm whale, humpback, orca, whale in the sea"),
    "dolphin": as_list("porpoise, bottlenose dolphin, bottlenose"),
    "dragon": as_list("wyvern, chinese dragon, fire dragon, winged dragon"),
    "pig": as_list("piggy, piglet, hog, swine"),
    "cow": as_list("dairy cow, bull, cattle, milk cow, spotted cow"),
    "elephant": as_list("jumbo, elephant with a trunk, african elephant"),
    "turtle": as_list("tortoise, sea turtle, turtle with a shell"),
    "honeybee": as_list("bee, bumblebee, honey bee, bumble bee"),
    "baby chick": as_list("chick, chicken, young chicken, hatchling, baby bird"),
    "racing car": as_list("race car, racecar, formula one car, sports car, car, f1 car, racer, automobile"),
    "birthday cake": as_list("cake, cake with candles, party cake, birthday pie, gateau"),
    "christmas tree": as_list("xmas tree, fir tree, decorated tree, pine tree, fir, christmas fir, holiday tree"),
    "sun": as_list("sunshine, smiling sun, sun with a face, bright sun"),
    "fish": as_list("fishy, swimming fish, tropical fish, fish with fins"),
    "snake": as_list("serpent, viper, python, cobra"),
}
ADJECTIVES = as_list("cute, funny, happy, cartoon, friendly, lovely, animated, sweet, pretty, single")
OWN_COLOURS = {  # so that a colour beside the subject is not taken for the background's
    "tiger": as_list("orange"),
    "rabbit": as_list("white, grey"),
    "octopus": as_list("orange, pink, red"),
    "snail": as_list("brown"),
    "penguin": as_list("black and white, purple"),
    "whale": as_list("blue"),
    "dolphin": as_list("blue, grey"),
    "dragon": as_list("green"),
    "pig": as_list("pink"),
    "cow": as_list("black and white, white, brown"),
    "elephant": as_list("grey, gray"),
    "turtle": as_list("green"),
    "honeybee": as_list("yellow, yellow and black"),
    "baby chick": as_list("yellow"),
    "racing car": as_list("red"),
    "birthday cake": as_list("brown, white"),
    "christmas tree": as_list("green"),
    "sun": as_list("yellow, golden"),
    "fish": as_list("blue, yellow"),
    "snake": as_list("green"),
}
SIZES = {
    "small": as_list(
        "small, small, little, tiny, mini, miniature, wee, petite, very small, small-sized, minuscule, teeny, "
        "pint-sized, short"
    ),
    "medium": as_list("-, -, -, -, -, -, -, -, medium-sized, medium, mid-sized, normal-sized, average-sized, regular"),
    "large": as_list(
        "large, large, big, huge, giant, enormous, gigantic, massive, great, very big, oversized, very large, "
        "tall, immense, colossal"
    ),
}
COLOURS = {
    "red": as_list(
        "crimson, scarlet, ruby, cherry red, bright red, vermilion, dark red, blood red, cherry, tomato red, brick "
        "red, ruby red, fire-engine red, deep red, maroon"
    ),
    "orange": as_list(
        "tangerine, amber, pumpkin, apricot, bright orange, carrot, pumpkin orange, deep orange, mandarin, light orange"
    ),
    "yellow": as_list(
        "golden, lemon, sunny yellow, canary, mustard, bright yellow, lemon yellow, gold, canary yellow, light "
        "yellow, pale yellow, banana yellow"
    ),
    "green": as_list(
        "emerald, forest green, grass green, dark green, bright green, emerald green, jade, grassy, lime, leaf "
        "green, olive, light green, mint"
    ),
    "blue": as_list(
        "navy, royal blue, sapphire, azure, cobalt, deep blue, ocean blue, bright blue, dark blue, navy blue, sky "
        "blue, cobalt blue, light blue, ultramarine, sea blue, indigo"
    ),
    "purple": as_list(
        "violet, plum, lilac, lavender, mauve, deep purple, bright purple, dark purple, amethyst, grape, "
        "aubergine, magenta, light purple"
    ),
    "white": as_list(
        "snow white, ivory, blank, bright white, snowy, chalk white, pure white, plain white, cream, milky white, "
        "pearl, colourless"
    ),
    "black": as_list(
        "pitch black, jet black, dark, ebony, coal black, pure black, pitch-dark, night-black, inky, onyx, "
        "lightless, deep black"
    ),
}
BEFORE = (  # where
    "on {a_colour} background",
    "on {a_colour} background",
    "on {a_colour} background",
    "in front of {a_colour} background",
    "in front of {colour}",
    "against {a_colour} backdrop",
    "against {a_colour} background",
    "against {colour}",
    "on {colour}",
    "over {a_colour} background",
    "over {colour}",
    "before {a_colour} background",
    "before {a_colour} wall",
    "in front of {a_colour} wall",
    "with {a_colour} background",
    "with {a_colour} background behind it",
    "with {colour} behind it",
    "with everything {colour} behind it",
    "on a plain {colour} background",
    "on a solid {colour} background",
    "in {a_colour} room",
    "in {a_colour} world",
    "in {a_colour} scene",
    "surrounded by {colour}",
    "on {a_colour} screen",
    "on {a_colour} canvas",
    "under {a_colour} sky",
    "in {a_colour} sky",
    "through {a_colour} sky",
    "in {colour} surroundings",
    "in {a_colour} setting",
    "on {a_colour} field",
    "where everything behind is {colour}",
    "in {colour}",
)
TEMPLATES = (
    "{a_subject} {doing} {before}",
    "{a_subject} {doing} {before}",
    "{a_subject} {doing} {before}",
    "{a_subject} {does} {before}",
    "{a_subject} {does} {before}",
    "the {subject} {does} {before}",
    "{subject} {doing} {before}",
    "{before}, {a_subject} {does}",
    "{before} {a_subject} {does}",
    "{before}, {a_subject} {doing}",
    "{colour} background, {subject}, {does}",
    "{colour} background, {a_subject} {doing}",
    "{subject}, {colour} background, {doing}",
    "{subject} {doing}, {colour} background",
    "{subject} {doing}, {colour}",
    "{a_subject} {does}, {colour} background",
    "the {subject} {does}. The background is {colour}.",
    "{a_subject} {does} and the background is {colour}",
    "{a_subject} {before}, {doing}",
    "{a_subject} {before} {does}",
    "{a_subject} {before} that {does}",
    "a video of {a_subject} {doing} {before}",
    "a clip of {a_subject} which {does} {before}",
    "a short clip of {a_subject} that {does}, {before}",
    "an animation of {a_subject} {doing} {before}",
    "an emoji of {a_subject} {doing} {before}",
    "show me {a_subject} {doing} {before}",
    "there is {a_subject} {doing} {before}",
    "we see {a_subject} {doing} {before}",
    "watch {a_subject} as it {does} {before}",
    "{before} there is {a_subject}, it {does}",
    "everything is {colour}, {a_subject} {does}",
    "{a_colour} backdrop with {a_subject} {doing}",
    "{a_colour} scene: {a_subject} {does}",
)
STILL_TEMPLATES = (
    "{a_subject} {before}",
    "{subject} {before}",
    "{subject}, {colour}",
    "a picture of {a_subject} {before}",
)
LOOSE_TEMPLATES = (  # where the motion is said beside the sentence
    "{a_subject} {before}, {loose}",
    "{a_subject} {before} {loose}",
    "{a_subject} {loose} {before}",
    "{subject}, {loose}, {colour} background",
    "{subject}, {colour} background, {loose}",
    "{a_subject} {before}. {loose}.",
    "{colour} background, {subject}, {loose}",
    "a video of {a_subject} {before}, {loose}",
    "{loose}: {a_subject} {before}",
    "{subject} {loose} {colour}",
)
