"""HTML and SVG from the templates in ``templates/``. Every value is escaped, unless it was rendered here itself."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(name: str, **values) -> str:
    """The template called ``name`` with these values, as a string that another template does not escape again.

    jinja2.UndefinedError where the template needs a value that is missing.
    """
    return Markup(ENVIRONMENT.get_template(name).render(**values))
