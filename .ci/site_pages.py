"""A hook of mkdocs: the README and its neighbours are pages of the site too, and links to them lead there."""

import re

from mkdocs.structure.files import File

BESIDE = {
    "README.md": "index.md",
    **{f"{name}.md": f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")},
}


def on_files(files, config):
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, abs_src_path=name))
    return files


def on_page_markdown(markdown, page, **_):
    """Links begin with `docs/` beside that folder, with `../` in it; on the site all pages lie together."""
    if page.file.src_uri in BESIDE.values():
        return re.sub(r"\]\(docs/", "](", markdown)
    return re.sub(r"\]\(\.\./(?=[A-Z]+\.md)", "](", markdown)
