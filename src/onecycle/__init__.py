"""onecycle: from labelled pictures to an image classifier that its owner can trust and ship.

``import onecycle`` is light: it loads neither torch nor matplotlib. The notebook's names come
with ``from onecycle.vision import *``.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
