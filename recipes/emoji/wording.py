"""Names, colours, sizes and places as different people put them; see `sentences`.

A "-" in a list is the empty word: nothing is said of the size of what is of medium size, for example.
"""

from __future__ import annotations


def as_list(text: str) -> tuple[str, ...]:
    """The words between commas."""
    return tuple("" if word == "-" else word for word in text.split(", "))


SUBJECTS = {
    "tiger": as_list(
        "tiger cub, tiger cat, striped cat, striped tiger, bengal tiger, big cat, siberian tiger, tigress, wild cat "
        "with stripes, tigers, kitty with stripes, feline"
    ),
    "rabbit": as_list(
        "bunny, hare, bunny rabbit, bunnies, easter bunny, cottontail, rabbit with long ears, lop-eared rabbit, white "
        "rabbit, wabbit, rabbits, jackrabbit"
    ),
    "octopus": as_list(
        "kraken, octopus with many arms, eight-armed octopus, octopi, octopod, cephalopod, squid, octopus with "
        "tentacles, tentacled creature, devilfish, octopuses, cuttlefish"
    ),
    "snail": as_list(
        "garden snail, slug with a shell, snail with a shell, sea snail, mollusc, mollusk, escargot, snails, slug, "
        "snail with its house"
    ),
    "penguin": as_list(
        "emperor penguin, antarctic bird, penguin bird, penguins, king penguin, pingu, little penguin bird, adelie "
        "penguin, flightless bird, baby penguin"
    ),
    "whale": as_list(
        "sperm whale, humpback, orca, whale in the sea, whales, blue whale, humpback whale, giant of the sea, "
        "spouting whale, orca whale, killer whale"
    ),
    "dolphin": as_list(
        "porpoise, bottlenose dolphin, bottlenose, dolphins, flipper, marine dolphin, dolphin jumping out of nowhere"
    ),
    "dragon": as_list(
        "wyvern, chinese dragon, fire dragon, winged dragon, dragons, drake, mythical dragon, fire-breathing dragon, "
        "dragon with wings, green monster, basilisk, sea dragon"
    ),
    "pig": as_list(
        "piggy, piglet, hog, swine, pigs, porky, hogs, sow, boar, little oinker, piggies, pig with a curly tail"
    ),
    "cow": as_list(
        "dairy cow, calves, oxen, bull, cattle, milk cow, spotted cow, cows, calf, ox, heifer, moo cow, "
        "milk-giving cow, steer, holstein, cow with horns"
    ),
    "elephant": as_list(
        "jumbo, elephant with a trunk, african elephant, elephants, tusker, indian elephant, baby elephant, "
        "pachyderm, mammoth, big-eared elephant"
    ),
    "turtle": as_list(
        "tortoise, sea turtle, turtle with a shell, turtles, terrapin, tortoises, green turtle, box turtle, "
        "leatherback, shelled reptile"
    ),
    "honeybee": as_list(
        "bee, bumblebee, honey bee, bumble bee, bees, honeybees, worker bee, queen bee, wasp, buzzing bee, hornet, "
        "little bee"
    ),
    "baby chick": as_list(
        "chick, chicken, young chicken, hatchling, baby bird, chicks, baby chicken, hatched chick, little chicken, "
        "fluffy chick, yellow chick, baby hen, fledgling, poultry chick"
    ),
    "racing car": as_list(
        "race car, racecar, formula one car, sports car, car, f1 car, racer, automobile, race cars, formula 1 car, "
        "formula one racer, cars, auto, speedster, fast car, bolide, vehicle, roadster, motor car, racing vehicle"
    ),
    "birthday cake": as_list(
        "cake, cake with candles, party cake, birthday pie, gateau, cakes, torte, birthday gateau, cake for a "
        "birthday, candlelit cake, dessert, layer cake, cake with lit candles, celebration cake"
    ),
    "christmas tree": as_list(
        "xmas tree, fir tree, decorated tree, pine tree, fir, christmas fir, holiday tree, christmas trees, "
        "evergreen, spruce, tree, conifer, tannenbaum, tree with lights, decorated fir, yule tree, xmas fir, new year "
        "tree, tree with a star"
    ),
    "sun": as_list(
        "sunshine, smiling sun, sun with a face, bright sun, suns, sol, shining sun, sun face, solar disc, smiley "
        "sun, daystar, morning sun, beaming sun"
    ),
    "fish": as_list(
        "fishy, swimming fish, tropical fish, fish with fins, fishes, goldfish, aquarium fish, little swimmer, trout, "
        "salmon, reef fish, blue fish"
    ),
    "snake": as_list(
        "serpent, viper, python, cobra, snakes, adder, rattlesnake, boa, serpents, anaconda, slithering snake, grass "
        "snake, asp, reptile without legs"
    ),
}
ADJECTIVES = as_list(
    "cute, funny, happy, cartoon, friendly, lovely, animated, sweet, pretty, single, lone, adorable, smiling, "
    "beautiful, nice, charming, jolly, cheerful, shiny, fluffy, realistic, stylised, emoji, 3d, hungry, brave, shy, "
    "young, old, lazy, busy, tired, playful, curious, magical, famous, round, proud, wild, clever"
)
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
        "pint-sized, short, compact, pocket-sized, itty-bitty, teeny-weeny, diminutive, undersized, tiny little, very "
        "little, smallish, micro, dwarf, baby-sized"
    ),
    "medium": as_list(
        "-, -, -, -, -, -, -, -, medium-sized, medium, mid-sized, normal-sized, average-sized, regular, medium-size, "
        "ordinary-sized, standard-sized, middle-sized"
    ),
    "large": as_list(
        "large, large, big, huge, giant, enormous, gigantic, massive, great, very big, oversized, very large, tall, "
        "immense, colossal, grand, vast, bulky, mighty, giant-sized, super big, really big, largish, jumbo-sized, "
        "monumental, extra large, hefty, towering"
    ),
}
COLOURS = {
    "red": as_list(
        "crimson, scarlet, ruby, cherry red, bright red, vermilion, dark red, blood red, cherry, tomato red, brick "
        "red, ruby red, fire-engine red, deep red, maroon, rose red, wine red, bordeaux, carmine, rusty red, "
        "burgundy, light red, vivid red, reddish, strawberry red, red-coloured, lipstick red, poppy red, warm red, "
        "signal red"
    ),
    "orange": as_list(
        "tangerine, amber, pumpkin, apricot, bright orange, carrot, pumpkin orange, deep orange, mandarin, light "
        "orange, orange-coloured, dark orange, vivid orange, burnt orange, rust orange, coral orange, peach, orangey, "
        "saffron, copper, warm orange, terracotta, sunset orange, neon orange"
    ),
    "yellow": as_list(
        "golden, lemon, sunny yellow, canary, mustard, bright yellow, lemon yellow, gold, canary yellow, light "
        "yellow, pale yellow, banana yellow, yellow-coloured, vivid yellow, yellowish, sunflower yellow, butter "
        "yellow, dark yellow, blond, corn yellow, sunshine yellow, neon yellow, bright gold, honey yellow, warm "
        "yellow, straw-coloured"
    ),
    "green": as_list(
        "emerald, forest green, grass green, dark green, bright green, emerald green, jade, grassy, lime, leaf green, "
        "olive, light green, mint, green-coloured, vivid green, greenish, moss green, sea green, lime green, mint "
        "green, neon green, pine green, pea green, spring green, hunter green, deep green, olive green, apple green, "
        "viridian"
    ),
    "blue": as_list(
        "navy, royal blue, sapphire, azure, cobalt, deep blue, ocean blue, bright blue, dark blue, navy blue, sky "
        "blue, cobalt blue, light blue, ultramarine, sea blue, indigo, blue-coloured, vivid blue, bluish, baby blue, "
        "midnight blue, electric blue, cornflower blue, steel blue, turquoise blue, marine blue, denim blue, pale "
        "blue, ice blue, cerulean, prussian blue, neon blue"
    ),
    "purple": as_list(
        "violet, plum, lilac, lavender, mauve, deep purple, bright purple, dark purple, amethyst, grape, aubergine, "
        "magenta, light purple, purple-coloured, vivid purple, purplish, royal purple, eggplant, orchid, violet "
        "purple, pale purple, neon purple, lavender purple, fuchsia, heather, wisteria, plum purple, deep violet"
    ),
    "white": as_list(
        "snow white, ivory, blank, bright white, snowy, chalk white, pure white, plain white, cream, milky white, "
        "pearl, colourless, white-coloured, off-white, paper white, white as snow, snow-white, bone white, eggshell, "
        "whitish, clean white, empty white, porcelain, alabaster, ghost white, colorless, frosty white"
    ),
    "black": as_list(
        "pitch black, jet black, dark, ebony, coal black, pure black, pitch-dark, night-black, inky, onyx, lightless, "
        "deep black, black-coloured, black as night, pitch-black, jet-black, charcoal black, raven black, blackish, "
        "dark black, night black, midnight black, plain black, sable, obsidian, soot-black, dusky"
    ),
}
SCENES = {  # places that have a colour of their own
    "red": as_list("on mars, in lava, in a sea of blood, among rubies"),
    "orange": as_list("at sunset, in the evening glow, in autumn leaves, by the light of a fire"),
    "yellow": as_list("in the desert, on the sand, on the beach, in a field of corn, among sunflowers, in a desert"),
    "green": as_list("on the grass, on a lawn, in a meadow, in the jungle, in the forest, in the woods, in the grass"),
    "blue": as_list(
        "in the ocean, in the sea, under water, underwater, in the sky, on the water, in the deep sea, in a clear sky"
    ),
    "purple": as_list("in a field of lavender, at dusk, among violets, in a lavender field"),
    "white": as_list("in the snow, in the fog, on snow, in a snowstorm, in the clouds, on paper, in the mist"),
    "black": as_list("at night, in the dark, in space, in outer space, in the darkness, in a dark room, in a cave"),
}
QUALITY = as_list(  # words of quality, which say nothing of what is shown
    "high quality, 4k, 8k, ultra hd, hyper quality, masterpiece, best quality, cinematic, smooth, sharp, detailed, "
    "highly detailed, beautiful, very nice, in high resolution, with great detail, hd, professional, vivid, "
    "aesthetic, trending, award winning, soft light, studio lighting, seamless loop, looping, 8 fps, animation"
)
FLAWS = as_list(  # of negative prompts
    "blurry, low quality, worst quality, ugly, deformed, bad anatomy, watermark, text, noise, jpeg artifacts, "
    "distorted, cropped, low resolution, grainy, bad, jitter, flicker, nsfw, logo, signature, disfigured, poorly "
    "drawn, out of frame, artifacts, cartoon network logo, duplicate, mutated, extra limbs, washed out, overexposed, "
    "static, still picture, motionless, jpeg, compression, subtitles, cluttered, mess, worst, lowres, error, "
    "pixelated, dull, gray, style, paintings, images, low"
)
