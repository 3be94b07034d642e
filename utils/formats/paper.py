"""Things cut from paper: their outlines, their colours and textures, and how they are pasted onto a picture.

utils/formats/shapes.py makes the built-in dataset from them. All randomness comes from the generator `rng`.
"""
import math

from PIL import Image, ImageDraw, ImageFilter

OVER = 3                       # shapes are drawn this much larger and averaged down: smooth edges


def cut_out(rng, name, extent):
    """A thing cut from paper: rotated, slightly squashed.

    Returns alpha (mode L) and its outline rings, OVER times larger.
    """
    side = int(extent) + 4
    turn, squash, lean = rng.uniform(0, 2 * math.pi), rng.uniform(0.9, 1), rng.uniform(0, 2 * math.pi)
    shift = [(side / 2 + rng.uniform(-0.5, 0.5)) * OVER for _ in "xy"]
    scale = OVER * extent / 2

    # Leaned, squashed, scaled, turned: what becomes of the two axes gives the matrix (a b, c d) of all four.
    (a, c), (b, d) = (rotate_point(x * scale, y * scale * squash, turn)
                      for x, y in (rotate_point(1, 0, lean), rotate_point(0, 1, lean)))
    rings = [[(a * x + b * y + shift[0], c * x + d * y + shift[1]) for x, y in ring]
             for ring in unit_outline(rng, name)]

    alpha = Image.new("L", (side * OVER, side * OVER))
    pen = ImageDraw.Draw(alpha)
    for ring, value in zip(rings, (255, 0)):                # the second ring is the hole
        pen.polygon(ring, fill=value)
    return alpha.reduce(OVER), rings


def unit_outline(rng, name):
    """The shape within the unit circle: a list of rings of points, the first its edge, the second a hole."""
    # The classes.
    if name == "circle":
        return [arc(lambda t: 1)]
    if name == "ring":
        hole = rng.uniform(0.5, 0.66)
        return [arc(lambda t: 1), arc(lambda t: hole)]
    if name == "cross":
        arm = rng.uniform(0.28, 0.36)
        corner = [(1, -arm), (1, arm), (arm, arm)]
        corners = [rotate_point(x * 0.95, y * 0.95, math.pi * i / 2) for i in range(4) for x, y in corner]
        return [rounded(corners, rng.uniform(0, 0.15))]
    if name == "square":
        corners = [rotate_point(1, 0, math.pi * i / 2) for i in range(4)]
        return [rounded(corners, rng.uniform(0, 0.12))]
    if name == "star":
        inner = rng.uniform(0.42, 0.52)
        corners = [rotate_point(inner if i % 2 else 1, 0, math.pi * i / 5) for i in range(10)]
        return [rounded(corners, rng.uniform(0, 0.2))]
    if name == "triangle":
        corners = [rotate_point(1, 0, 2 * math.pi * i / 3 + rng.uniform(-0.2, 0.2)) for i in range(3)]
        return [rounded(corners, rng.uniform(0, 0.12))]

    # The other things, which look similar enough to be confused with them.
    if name == "blob":
        waves = [(k, rng.uniform(0.12, 0.3) / math.sqrt(k), rng.random()) for k in (2, 3, 5)]
        return [arc(lambda t: 0.68 * (1 + sum(a * math.sin(2 * math.pi * (k * t + p)) for k, a, p in waves)))]
    if name == "crescent":
        bite = rng.uniform(0.35, 0.6)
        back = arc(lambda t: 1, 0.22, 0.78)
        front = [(bite * x + 0.187 * (1 - bite), y) for x, y in reversed(back)]
        return [back + front]
    if name == "arc":
        end, inner = rng.uniform(0.3, 0.55), rng.uniform(0.72, 0.84)
        return [arc(lambda t: 1, 0, end) + arc(lambda t: inner, end, 0)]

    # The bar.
    thick = rng.uniform(0.06, 0.16)
    return [rounded([(-1, -thick), (1, -thick), (1, thick), (-1, thick)], rng.uniform(0, 0.4))]


def arc(radius, start=0.0, end=1.0, steps=72):
    """Points at radius(t), where t goes from start to end and 1 is once around."""
    points = []
    for i in range(steps):
        t = start + (end - start) * i / steps
        points.append((radius(t) * math.cos(2 * math.pi * t), radius(t) * math.sin(2 * math.pi * t)))
    return points


def rounded(points, share):
    """The polygon with every corner replaced by a curve that begins `share` of the way to its neighbours."""
    curve = []
    for i, corner in enumerate(points):
        a = mixed_point(corner, points[i - 1], share)
        b = mixed_point(corner, points[(i + 1) % len(points)], share)
        for t in (0, 0.25, 0.5, 0.75, 1):
            curve.append(mixed_point(mixed_point(a, corner, t), mixed_point(corner, b, t), t))
    return curve


def rotate_point(x, y, angle):
    """The point (x, y) rotated around 0 by an angle in radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x * cos - y * sin, x * sin + y * cos


def mixed_point(a, b, share):
    """The point between a (share 0) and b (share 1)."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def paste_thing(rng, picture, rings, alpha, corner, inks, light, shadow):
    """Colour one thing, throw its soft shadow and paste it onto the picture."""
    x, y = corner
    side = alpha.width

    # A colour that differs enough from the average of what is below it, mostly.
    below = picture.crop((x, y, x + side, y + side)).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    wanted = 80 if rng.random() < 0.08 else 160
    clear = [ink for ink in inks if sum(abs(p - q) for p, q in zip(ink, below)) > wanted] or inks
    ink = rng.choice(clear)

    # The second colour of its texture is a lighter or darker one, sometimes any other.
    if rng.random() < 0.12:
        second = rng.choice(inks)
    else:
        second = mixed(ink, rng.choice(((255, 255, 255), (20, 20, 40))), rng.uniform(0.15, 0.4))
    tile = texture(rng, side * OVER, ink, second)

    # Some have their outline drawn.
    if rng.random() < 0.3:
        pen, width = ImageDraw.Draw(tile), int(side * OVER * rng.uniform(0.03, 0.09)) + 2
        colour = mixed(ink, rng.choice(((255, 255, 255), (20, 20, 30))), rng.uniform(0.4, 0.8))
        for ring in rings:
            pen.line(ring + ring[:2], fill=colour, width=width, joint="curve" if len(ring) < 60 else None)

    if shadow:
        throw_shadow(picture, alpha, corner, light, shadow)
    picture.paste(tile.reduce(OVER), (x, y), alpha)


def throw_shadow(picture, alpha, corner, light, strength):
    """Darken the picture softly beside where a thing will be pasted. light: the direction of the shadow."""
    x, y = corner
    reach = 2 + alpha.width // 30
    side = alpha.width + 4 * reach
    soft = Image.new("L", (side, side))
    soft.paste(alpha.point([int(v * strength) for v in range(256)]), (2 * reach, 2 * reach))
    soft = soft.filter(ImageFilter.BoxBlur(reach * 0.8))

    left = round(x - 2 * reach + reach * math.cos(light))
    top = round(y - 2 * reach + reach * math.sin(light))
    picture.paste((15, 15, 30), (left, top), soft)


def texture(rng, side, ink, second):
    """A square of paper (mode RGB): plain, shaded, striped, dotted or checked."""
    kind = pick(rng, {"plain": 25, "shaded": 30, "stripes": 18, "dots": 15, "checks": 12})
    tile = Image.new("RGB", (side, side), ink)
    if kind == "plain":
        return tile
    if kind == "shaded":
        shade = Image.linear_gradient("L").resize((64, 64))
        shade = shade.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR).crop((10, 10, 54, 54))
        tile.paste(second, mask=shade.resize(tile.size))
        return tile

    # The others repeat a mark on a turned grid around the centre; stripes need only one row of it.
    pen, angle = ImageDraw.Draw(tile), rng.uniform(0, math.pi)
    step = max(5 * OVER, side * rng.uniform(0.1, 0.22))
    reach = int(0.75 * side / step) + 1
    width = rng.uniform(0.3, 0.6)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1) if kind != "stripes" else (0,):
            x, y = (side / 2 + c for c in rotate_point(i * step, j * step, angle))
            if kind == "stripes":
                dx, dy = rotate_point(0, side, angle)
                pen.line((x - dx, y - dy, x + dx, y + dy), fill=second, width=int(step * width))
            elif kind == "dots":
                r = step * width * 0.6
                pen.ellipse((x - r, y - r, x + r, y + r), fill=second)
            elif (i + j) % 2:
                corners = (rotate_point(step * 0.71, 0, angle + math.pi * (k + 0.5) / 2) for k in range(4))
                pen.polygon([(x + dx, y + dy) for dx, dy in corners], fill=second)
    return tile


def pick(rng, weights):
    """One of the keys, as often as its weight says."""
    return rng.choices(list(weights), list(weights.values()))[0]


def mixed(a, b, share):
    """The colour between a (share 0) and b (share 1)."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b))
