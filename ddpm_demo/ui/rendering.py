"""Renders HTML and SVG from the templates in ``templates/``. Every value is escaped, except rendered templates."""

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
    """Render the template ``name`` with these values. Another template does not escape the result again.

    Raises jinja2.UndefinedError if a value that the template needs is missing.
    """
    return Markup(ENVIRONMENT.get_template(name).render(**values))
