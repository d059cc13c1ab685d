"""Pictures: bytes in, checked pixels and the object's mask out. The words that others use of them stand here, without
numpy."""

from typing import Literal, get_args

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What a picture may be: recognised by content, whatever the file's name says."""

View = Literal["front", "left", "back", "right"]

VIEWS: tuple[View, ...] = get_args(View)
"""The sides of an object, in the order in which they are met walking round it. Every model reads the front."""

Background = Literal["auto", "true", "false"]
"""What to do with a picture's background, see `cutout.foreground`."""

CUTOUT_REVISION = "grabcut-1"
"""Part of every cache key that depends on `cutout.foreground`: change it whenever its result changes."""
