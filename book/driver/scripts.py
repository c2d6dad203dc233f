"""A Sphinx extension: each page loads each script once, and none of those that would ask another host.

Jupyter Book's extensions register some scripts twice (a console error each) and always bring thebe, which would load
itself from another host and which this book does not use.
"""

from __future__ import annotations

from typing import Any

UNUSED = ("THEBE_JS_URL", "sphinx-thebe")


def setup(app: Any) -> dict[str, bool]:
    def once(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
        seen: dict[str, Any] = {}
        for script in context.get("script_files", []):
            key = str(getattr(script, "filename", None) or script.attributes.get("body", script))
            if not any(name in key for name in UNUSED):
                seen.setdefault(key, script)
        context["script_files"] = list(seen.values())
        styles = context.get("css_files", [])
        context["css_files"] = [s for s in styles if not any(name in str(s) for name in UNUSED)]

    app.connect("html-page-context", once, priority=999)
    return {"parallel_read_safe": True}
