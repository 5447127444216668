"""Pieces of the concept viewer's page."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageFilter

# Pixels per side of a picture, twice the displayed size for high-resolution screens.
SIDE = 448


CSS = """
.sentence { font-size: 1.35rem; line-height: 1.5; margin: 0 0 .5rem; font-weight: 600; }
.remark, .votes { font-size: 1rem; margin: 0 0 .75rem; opacity: .85; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); }
.grid.wide { grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); }
.card { border: 1px solid rgba(128, 128, 128, .3); border-radius: 10px; overflow: hidden; }
.card img { display: block; width: 100%; height: auto; margin: 0; }
.card div { padding: .5rem .75rem .6rem; font-size: 1rem; line-height: 1.35; overflow-wrap: anywhere; }
.card .title { display: block; font-weight: 600; }
.card .for { color: #b71c1c; font-weight: 600; }
.card .against { color: #1f5fa8; font-weight: 600; }
.dark .card .for { color: #ff8a80; }
.dark .card .against { color: #90caf9; }
#thumbnails .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.card img.inactive { opacity: .55; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.5rem; font-size: .95rem; margin: 0 0 .9rem; }
.legend i { display: inline-block; width: 4rem; height: .8rem; border-radius: 3px; margin-right: .4rem; vertical-align: -1px; }
.result { font-size: 1.1rem; margin: 0 0 .5rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
.study { border-collapse: collapse; font-size: .95rem; }
.study th, .study td { border: 1px solid rgba(128, 128, 128, .3); padding: .35rem .5rem; text-align: center; }
.study tr:first-child th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; font-weight: 500; }
.study tr th:first-child { white-space: nowrap; text-align: left; }
"""


LEGEND = (
    '<p class="legend"><span><i style="background:linear-gradient(90deg,#f4e3df,#b2182b)"></i>speaks for the class (+)</span>'
    '<span><i style="background:linear-gradient(90deg,#dfe8f0,#2166ac)"></i>speaks against it (−)</span>'
    "<span>Each heatmap has its own scale, and is slightly smoothed.</span></p>"
)


STUDY_REMARK = (
    '<p class="remark">Lower is better. O1 and O2 say how much the x-features fall on the same parts, locality (in nats) over '
    "how many parts each one spreads. X-features without answers are left out.</p>"
)


def card(source: str, title: str, text: str, sign: str = "") -> str:
    """A picture with a title and a line of text; `sign` is "for", "against" or "inactive"."""
    title = f'<span class="title">{html.escape(title)}</span>' if title else ""
    return (
        f'<div class="card"><img class="{sign}" src="{source}" alt="{html.escape(text)}"><div>{title}'
        f'<span class="{sign}">{html.escape(text)}</span></div></div>'
    )


def grid(cards: Sequence[str], wide: bool = False) -> str:
    return f'<div class="grid{" wide" * wide}">{"".join(cards)}</div>'


def result(title: str, studies: Sequence[tuple]) -> str:
    """A line with O1, O2 and locality, the means of (orthogonality, localities) of some classes."""
    figures = [
        [o.excess_norm, o.negative_log_determinant, np.mean(p[~np.isnan(p)] if (~np.isnan(p)).any() else p)]
        for o, p in studies
    ]
    names = ("O1", "O2", "locality")
    text = " &nbsp; ".join(f"{name} <b>{figure(value)}</b>" for name, value in zip(names, np.mean(figures, axis=0)))
    return f'<p class="result">{html.escape(title)}: &nbsp; {text}</p>'


def figure(value: float) -> str:
    return "–" if np.isnan(value) else "∞" if np.isinf(value) else f"{value:.3f}"


def signed(value: float, space: str = "") -> str:
    # Adding 0 turns -0 into 0.
    value = round(float(value), 1) + 0.0
    return f"{'−' if value < 0 else '+'}{space}{abs(value):.1f}"


def choice(number: int, name: str) -> str:
    return name if name == f"x-feature {number}" else f"{number}: {name}"


def spoken(label: str) -> str:
    return label.replace("_", " ")


def as_image(image: np.ndarray) -> Image.Image:
    """An image (height, width, channels) as a `PIL.Image` in color."""
    pixels = np.clip(np.rint(image), 0, 255).astype("uint8")
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]).convert("RGB")


def picture(image: np.ndarray, heat: np.ndarray | None = None, against: bool = False) -> str:
    """An image as the source of an <img>, under a heatmap (h, w) unless that is constant.

    The heatmap is slightly smoothed, and scaled to its largest value.
    """
    picture = as_image(image)
    width, height = picture.size
    scale = max(SIDE / max(width, height), 1.0)
    size = round(width * scale), round(height * scale)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    if heat is not None and np.ptp(heat):
        share = Image.fromarray((255 * (heat / heat.max())).astype("uint8")).resize(size, Image.Resampling.BICUBIC)
        # Strided convolutions leave a lattice in winning probabilities, which looks like a pattern of the image.
        share = np.asarray(share.filter(ImageFilter.GaussianBlur(SIDE / 50)), "float32")[..., None]
        share /= max(share.max(), 1.0)
        # As in `drawing`: red for, blue against. A gray and pale image, so that color is heat.
        pale = 0.65 * np.asarray(picture.convert("L").convert("RGB"), "float32") + 0.35 * 255
        color = colormaps["RdBu_r"](0.5 - share[..., 0] / 2 if against else 0.5 + share[..., 0] / 2)[..., :3] * 255
        alpha = 0.8 * np.sqrt(share)
        picture = Image.fromarray((pale * (1 - alpha) + color * alpha).astype("uint8"))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
