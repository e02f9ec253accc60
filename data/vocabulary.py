"""The words of the invented catalogue: its products, their makers, names and attributes.

For `data.sentences` and `data.synthetic` only: data, no chance and no I/O. Every name is
invented, or common enough to be nobody's. No title word but the noun itself may be one of the
nouns, or a title would name two products; a test checks it.
"""

from typing import NamedTuple


class Noun(NamedTuple):
    """A product, with what can be said of it."""

    name: str
    parts: tuple[str, ...]
    themes: tuple[str, ...]
    styles: tuple[str, ...]
    sizes: tuple[str, ...]


def words(text: str) -> tuple[str, ...]:
    """Split a list at its commas."""
    return tuple(word.strip() for word in text.replace("\n", " ").split(","))


def _nouns(styles: str, table: str) -> tuple[Noun, ...]:
    """Read ``noun | parts | sizes`` lines, each followed by a line of its themes."""
    rows = table.strip().splitlines()
    nouns = []
    for head, themes in zip(rows[::2], rows[1::2], strict=True):
        name, parts, sizes = (field.strip() for field in head.split("|"))
        nouns.append(Noun(name, words(parts), words(themes), words(styles), words(sizes)))
    return tuple(nouns)


_FIRST = words(
    """Ottilie, Edda, Corvin, Maren, Tobin, Ysolde, Lucan, Petra, Anselm, Brida, Cosmo, Delphine,
    Evander, Fenella, Gideon, Hester, Isolde, Jorun, Kasimir, Leonie, Magnus, Nerys, Orlan, Phaedra,
    Quillon, Rosalba, Severin, Tamsin, Ulric, Verity, Wendel, Xanthe, Yorick, Zelda, Alaric, Blythe,
    Caspian, Dorothea, Emeric, Flavia"""
)
_LAST = words(
    """Fenwick, Marrowby, Ostrander, Quillfeather, Harrowgate, Penhallow, Thistlewood, Brackwater,
    Sandoval-Reed, Winterbourne, Ashgrove, Calloway, Dunmarrow, Eastlake, Farthing, Greywell,
    Holloway, Ironside, Juniper, Kestrel, Larkspur, Merriweather, Nettlefold, Oakhurst, Pemberly,
    Ravenscar, Silverton, Tanglewood, Underhill, Vandelmere, Whitlock, Yarrow, Applegarth,
    Birchall, Copperhart, Driscoll, Elderwick, Foxglove, Goldsworth, Hathersage"""
)
ADJECTIVES = words(
    """Amber, Silent, Golden, Hidden, Northern, Crimson, Forgotten, Gentle, Hollow, Iron, Jade,
    Lonely, Midnight, Narrow, Open, Patient, Quiet, Restless, Silver, Tender, Velvet, Wandering,
    Ancient, Broken, Copper, Distant, Eastern, Faithful, Frozen, Honest, Little, Lost, Painted,
    Scarlet, Sunken, Simple, Summer, Winter, Wild, Bright"""
)
_THINGS = words(
    """Harbour, Lighthouse, Orchard, River, Garden, Bridge, Mountain, Forest, Island, Meadow,
    Tower, Window, Staircase, Market, Railway, Castle, Library, Kitchen, Valley, Shore, Lantern,
    Compass, Feather, Hourglass, Letter, Map, Sparrow, Fox, Heron, Wolf, Rose, Willow, Storm,
    Tide, Star, Moon, Morning, Evening, Journey, Promise"""
)
_PLACES = (
    "Westmere, Calder Bay, Dunmoor, Fernhill, Grayport, Hollin Vale, Kingsferry, Larkhaven, "
    "Millbrook Sands, Newcombe, Pinehollow, Ravenmouth, Saltmarsh, Thornbury Green, Vellwick, "
    "Windermoor, Yewdale, Brackenford, Coldwater, Driftwood Cove, Foxley, Gullstone, Marlowe Hill, "
    "Redstone, Silverlake, Tarnside, Wexcombe, Bellhaven, Cliffside, Rosemount"
)
_GENRES = (
    "Jazz, Folk, Blues, Soul, Country, Rock, Reggae, Swing, Baroque, Celtic, Gospel, Piano, "
    "Chamber, Dance, Funk, Salsa, Tango, Punk, Bluegrass, Latin"
)
_SETTINGS = (
    "Silent, Family, Nordic, Seaside, Wartime, Mountain, Village, Desert, Railway, Courtroom, "
    "Circus, Backstage, Prairie, School, Railroad, Polar, Jungle, Big City, Small Town, Science"
)
COLOURS = words(
    """Blue, Red, Green, Black, White, Grey, Yellow, Orange, Purple, Brown, Navy, Turquoise, Cream,
    Burgundy, Olive, Teal"""
)
RANGES = words(
    """Meridian, Altamar, Solstice, Horizon, Cascade, Verano, Nimbus, Aurora, Boreal, Cobalt, Drift,
    Ember, Fjord, Glacier, Harvest, Indigo, Juno, Keystone, Lumen, Maple, Nova, Orbit, Prairie,
    Quartz, Ridge, Sierra, Tundra, Umber, Vista, Zephyr, Atlantic, Bistro, Cottage, Delta, Everyday,
    Fireside, Granite, Heritage, Island, Junction"""
)
BRANDS = words(
    """Ostravik, Tellmark, Brunholt, Cavendry, Dorwick, Elmstead, Farrowdale, Gransund, Hexley,
    Ivarsson, Jorvale, Kelmont, Lindqvar, Mortonby, Nordhaus, Orrisdale, Pellamy, Quenby, Rostwell,
    Stellmar, Trendlow, Ulverton, Vantorre, Wrenfield, Yelverby, Zanderlo, Ashcombe, Belgravo,
    Corvanta, Drumlin, Estermoor, Finchmoor, Glenmarch, Hartsop, Inverell, Jessamy, Kirkwold,
    Lomandi, Marchetto, Northwold"""
)
PEOPLE = tuple(f"{first} {last}" for last in _LAST for first in _FIRST)
WORKS = tuple(f"The {adjective} {thing}" for adjective in ADJECTIVES for thing in _THINGS)
BANDS = tuple(
    f"The {adjective} {thing}s" for adjective in ADJECTIVES[::2] for thing in _THINGS[24:32]
)
HOUSES = tuple(f"{left} & {right}" for left in BRANDS[:10] for right in BRANDS[30:34])

BOOKS = _nouns(
    _PLACES,
    """
novel | heroine, narrator, old house, last chapter |
a family divided by a secret, a summer that changes everything, the long way home
mystery | detective, witness, locked room, missing letter |
a theft that nobody saw, a village full of secrets, a stranger who knew too much
thriller | agent, chase, stolen file, midnight train |
a race against the clock, a conspiracy in high office, a hunter who becomes the hunted
romance | heroine, first meeting, wedding, old promise |
a second chance at love, two rivals who fall in love, a letter that arrives too late
memoir | childhood, voyage, family album, farewell |
growing up by the sea, a life spent on the road, learning to begin again
biography | early life, public career, private diary, legacy |
the making of a great engineer, a painter who broke every rule, the rise of a country doctor
cookbook | opening recipe, bread chapter, soup chapter, weekly menu |
slow Sunday cooking, quick suppers from the garden, baking for a crowd
atlas | fold-out map, city plan, coastline, index of places |
the shape of the coast, roads old and new, rivers from spring to sea
anthology | opening piece, introduction, selection, closing poem |
voices from three generations, writing about weather, stories told by the fire
dictionary | entry, pronunciation key, appendix, word list |
the words of sailors, everyday speech and its roots, forgotten terms of the trades
travel guide | walking tour, hotel list, city map, day trip |
a long weekend on foot, the best small hotels, travelling on a budget
workbook | exercise, answer key, checklist, weekly plan |
building better habits, practising step by step, preparing for the exam
picture book | rabbit, bedtime scene, pop-up page, illustration |
sharing with a friend, a brave walk through the dark, the first day of school
fairy tale | princess, talking wolf, enchanted well, kind giant |
a wish that goes wrong, a spell that sleeps for years, the youngest of three brothers
almanac | calendar, tide table, planting chart, moon table |
the turning of the year, weather lore from the farm, what to sow and when
textbook | worked example, summary, glossary, review question |
the foundations of geometry, how living cells work, an introduction to economics
handbook | safety chapter, checklist, diagram, reference table |
repairing small engines, keeping bees through the seasons, running a small workshop
diary | first entry, torn page, pencil sketch, final entry |
a winter spent alone, one year on the farm, the letters that never were sent
ghost story | haunted hall, caretaker, cold room, final scene |
footsteps on an empty stair, a portrait that watches, a debt owed to the dead
songbook | melody line, chord chart, chorus, singing guide |
songs for the campfire, carols for the whole choir, tunes that sailors sang
""",
)
MUSIC = _nouns(
    _GENRES,
    """
album | opening track, chorus, bass line, final song |
late nights in the city, leaving home, the first warm days of spring
symphony | slow movement, finale, horn section, main theme |
the changing seasons, a storm at sea, a march toward daybreak
soundtrack | main theme, love theme, chase cue, closing credits |
a journey across the desert, a love that outlasts the war, a heist gone wrong
concerto | solo part, cadenza, opening movement, orchestra |
a dialogue between friends, the play of light on water, a dance that grows wilder
mixtape | intro, guest verse, beat, hidden track |
long drives after dark, a party that never ends, coming back to the old street
opera | overture, love duet, chorus, final aria |
a king who loses everything, two lovers on opposite sides, a bargain with the sea
live recording | encore, crowd, drum solo, opening number |
one unforgettable night, the last date of the tour, a homecoming concert
box set | bonus disc, booklet, rare take, early demo |
thirty years on the road, the complete studio sessions, the songs that were never released
string quartet | viola part, slow movement, first violin, finale |
grief and consolation, a walk through the old town, folk tunes from the hills
ballad collection | opening ballad, fiddle, refrain, last verse |
shipwrecks and storms, faithful sweethearts, outlaws and their horses
""",
)
FILMS = _nouns(
    _SETTINGS,
    """
documentary | interview, archive footage, narrator, opening shot |
people who live by the tide, the building of a great bridge, animals on the move
comedy | mix-up, dinner scene, leading pair, running joke |
a wedding that goes wrong, two brothers and one inheritance, a holiday nobody wanted
western | sheriff, showdown, cattle drive, lonely ranch |
a stranger who rides into town, a feud over water, one last ride
drama | leading role, courtroom scene, final speech, score |
a family facing the truth, a teacher who will not give up, the price of ambition
cartoon | talking cat, chase, theme song, clumsy hero |
friends who find a treasure map, a mouse that learns to fly, a day of small disasters
concert film | encore, backstage scene, light show, opening number |
one night in front of thousands, the last tour of a great band, music made in the open air
miniseries | pilot episode, cast, cliffhanger, final episode |
three generations under one roof, a crime that divides a town, the founding of a colony
musical | dance number, chorus line, title song, duet |
an understudy who gets her chance, love in the dressing room, saving the old theatre
""",
)
GOODS = (
    *_nouns(
        "Brushed Steel, Copper, Enamel, Cast Iron, Bamboo, Stoneware, Glass, Aluminium",
        """
kettle | spout, lid, handle, base | 1-Litre, 1.2-Litre, 1.5-Litre, 1.7-Litre
boiling water for tea, a quick cup of coffee, filling a hot-water bottle
toaster | slot, lever, crumb tray, dial | 2-Slice, 4-Slice, 6-Slice
golden toast at breakfast, warming rolls, thick slices of bread
blender | jug, blade, motor, lid | 1-Litre, 1.5-Litre, 2-Litre
smoothies in the morning, silky soups, crushing ice
frying pan | rim, base, handle, pouring lip | 8-Inch, 10-Inch, 12-Inch
crisp potatoes, eggs without sticking, searing fish
teapot | spout, lid, strainer, handle | 2-Cup, 4-Cup, 6-Cup
loose leaf tea, an afternoon with friends, herbal infusions
cutting board | edge, juice groove, handle, surface | 10-Inch, 14-Inch, 18-Inch
chopping vegetables, carving a roast, serving cheese
mixing bowl | rim, foot, pouring lip, inside | 2-Quart, 4-Quart, 8-Quart
whisking cream, kneading dough, tossing a salad
coffee grinder | crank, burr, drawer, hopper | 2-Ounce, 4-Ounce, 6-Ounce
fine espresso, a coarse French press, grinding spices
""",
    ),
    *_nouns(
        "Oak, Walnut, Cotton, Linen, Brass, Ceramic, Velvet, Wool",
        """
rug | border, pile, backing, fringe | 4-Foot, 6-Foot, 8-Foot
warming a cold floor, the space beside the bed, a quiet reading corner
lamp | shade, stem, switch, foot | 12-Inch, 18-Inch, 24-Inch
reading in bed, soft light in the evening, a dark hallway
curtain | hem, lining, heading, tieback | 54-Inch, 63-Inch, 84-Inch
keeping out the early sun, a draughty window, privacy in the bathroom
pillow | cover, filling, seam, zip | 16-Inch, 18-Inch, 20-Inch
a good night of sleep, the sofa, support for the neck
blanket | weave, hem, border, fringe | 50-Inch, 60-Inch, 90-Inch
cold winter nights, a picnic on the grass, the end of the bed
bookshelf | back panel, upright, lower shelf, wall bracket | 3-Tier, 4-Tier, 5-Tier
heavy volumes, plants and photographs, a narrow wall
mirror | frame, edge, hook, backing | 20-Inch, 30-Inch, 48-Inch
a bright entrance, the dressing room, making a small room look larger
wall clock | dial, hour hand, frame, movement | 10-Inch, 12-Inch, 16-Inch
the kitchen wall, a busy classroom, telling the time across the room
vase | neck, foot, rim, glaze | 6-Inch, 9-Inch, 14-Inch
tall stems, a single flower, dried grasses
candle holder | cup, stem, drip tray, base | 2-Arm, 3-Arm, 5-Arm
a festive table, quiet evenings, the garden in summer
""",
    ),
    *_nouns(
        "Forged Steel, Hickory, Carbon Steel, Fibreglass, Galvanised Steel, Titanium, Ash Wood",
        """
hammer | head, claw, grip, shaft | 12-Ounce, 16-Ounce, 20-Ounce
driving nails, pulling old tacks, framing a shed
drill | chuck, trigger, battery, gearbox | 12-Volt, 18-Volt, 20-Volt
holes in masonry, hanging shelves, mending furniture
wrench | jaw, thumbwheel, handle, scale | 6-Inch, 8-Inch, 12-Inch
tightening pipes, stubborn bolts, looking after the car
ladder | step, hinge, top cap, side rail | 4-Step, 6-Step, 8-Step
changing light bulbs, cleaning gutters, painting the ceiling
toolbox | latch, tray, hinge, handle | 16-Inch, 19-Inch, 24-Inch
keeping screws in order, carrying tools to the site, the boot of the car
tape measure | hook, lock, blade, case | 10-Foot, 16-Foot, 25-Foot
measuring a room, marking timber, fitting curtains alone
flashlight | lens, switch, beam, wrist strap | 200-Lumen, 500-Lumen, 900-Lumen
a power cut, walking the dog at night, looking under the bonnet
watering can | rose, spout, handle, rim | 5-Litre, 8-Litre, 10-Litre
young seedlings, hanging baskets, a long row of tomatoes
rake | tine, socket, shaft, grip | 12-Tine, 16-Tine, 22-Tine
gathering leaves, levelling soil, clearing moss from the lawn
wheelbarrow | tray, wheel, axle, grip | 60-Litre, 85-Litre, 100-Litre
moving gravel, carting firewood, a day of planting
planter | drainage hole, rim, saucer, liner | 8-Inch, 12-Inch, 20-Inch
herbs by the kitchen door, a balcony full of flowers, small trees
bird feeder | perch, roof, seed tray, hook | 2-Port, 4-Port, 6-Port
finches in winter, watching from the window, sunflower seeds
""",
    ),
    *_nouns(
        "Beech, Cardboard, Felt, Plush, Recycled Plastic, Tin, Birch, Canvas",
        """
puzzle | picture, corner piece, poster, storage bag | 100-Piece, 500-Piece, 1000-Piece
a rainy afternoon, the whole family, quiet concentration
doll | dress, hair, face, pair of shoes | 10-Inch, 14-Inch, 18-Inch
pretend play, a bedtime companion, young collectors
board game | playing card, die, rule sheet, pawn | 2-Player, 4-Player, 6-Player
game night, long journeys by train, clever planning
kite | tail, line, spar, reel | 36-Inch, 48-Inch, 60-Inch
windy days at the beach, learning to steer, an open field
train set | engine, bridge, signal, track | 20-Piece, 40-Piece, 60-Piece
building a little town, hours of play on the floor, a growing collection
teddy bear | nose, paw, ribbon, ear | 9-Inch, 12-Inch, 16-Inch
a christening, cuddles at bedtime, a get-well present
""",
    ),
    *_nouns(
        "Merino, Cotton, Denim, Leather, Fleece, Linen, Waxed Canvas, Corduroy",
        """
jacket | collar, cuff, zip, inner pocket | Small, Medium, Large, Extra Large
cool evenings, walking to work, a day in the hills
scarf | fringe, hem, weave, label | Short, Long, Extra Long
frosty mornings, brightening a plain coat, travelling light
sweater | neckline, cuff, hem, shoulder seam | Small, Medium, Large, Extra Large
layering in autumn, evenings by the fire, the office
raincoat | hood, seam, storm flap, snap | Small, Medium, Large, Extra Large
sudden showers, cycling in bad weather, the walk to school
belt | buckle, loop, tip, stitching | 32-Inch, 36-Inch, 40-Inch
jeans and chinos, smart trousers, everyday wear
apron | neck strap, bib, front pocket, tie | Small, Medium, Large
baking at the weekend, the barbecue, pottery and painting
backpack | shoulder strap, side pocket, zip, laptop sleeve | 15-Litre, 22-Litre, 30-Litre
school and college, short hikes, hand luggage
umbrella | canopy, rib, handle, tip | 36-Inch, 42-Inch, 54-Inch
stormy days, sharing with a friend, the daily commute
""",
    ),
    *_nouns(
        "Aluminium, Recycled Plastic, Bamboo, Titanium, Soft-Touch Rubber, Walnut, Carbon Fibre",
        """
keyboard | space bar, key, wrist rest, cable | 60-Key, 87-Key, 104-Key
typing all day, gaming, a tidy desk
charger | plug, cable, status light, port | 20-Watt, 45-Watt, 65-Watt
phones and tablets, a full battery before breakfast, travelling abroad
speaker | driver, volume knob, battery, grille | 5-Watt, 10-Watt, 20-Watt
music in the garden, clear voices, parties at home
camera | lens, shutter, viewfinder, neck strap | 12-Megapixel, 20-Megapixel, 24-Megapixel
family portraits, landscapes at dawn, learning photography
radio | dial, aerial, volume knob, speaker grille | 2-Band, 3-Band, 4-Band
news in the kitchen, listening at the workbench, camping trips
microphone | capsule, stand, pop filter, cable | 16-Bit, 24-Bit, 32-Bit
recording a podcast, singing at home, meetings online
""",
    ),
    *_nouns(
        "Ripstop Nylon, Aluminium, Natural Rubber, Canvas, Carbon Fibre, Cork, Recycled Polyester",
        """
tent | flysheet, pole, groundsheet, porch | 1-Person, 2-Person, 4-Person
a weekend in the woods, festivals, windy campsites
sleeping bag | hood, zip, lining, stuff sack | 1-Season, 2-Season, 4-Season
nights above the tree line, staying with friends, mild summer camping
yoga mat | surface, edge, carrying strap, underside | 4-Millimetre, 6-Millimetre, 8-Millimetre
morning stretches, balance exercises, classes at the studio
bicycle | saddle, frame, brake, chain | 3-Speed, 7-Speed, 21-Speed
riding to work, country lanes, errands in town
tennis racket | grip, frame, string bed, throat | 25-Inch, 26-Inch, 27-Inch
first lessons, club matches, a stronger serve
""",
    ),
)

NOUNS = tuple(noun.name for noun in (*BOOKS, *MUSIC, *FILMS, *GOODS))
