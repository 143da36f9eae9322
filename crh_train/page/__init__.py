"""A run as one HTML page that needs nothing but itself: `read` gathers what a run's folder holds, `render` makes the
page of it. Neither needs JAX or the data.
"""

from crh_train.page.contents import Contents, read
from crh_train.page.document import render

__all__ = ["Contents", "read", "render"]
