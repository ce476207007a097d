"""A hook of mkdocs: the README and its neighbours are pages of the site too, and links to them lead there;
tables and words are marked for docs/site.css."""

import itertools
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
    """Links begin with `docs/` beside that folder, with `../` in it; on the site all pages lie together. In a
    table GitHub wants a `\\` before the `|` of code, and Python-Markdown shows it."""
    markdown = re.sub(r"^\|.*", _plain_code, markdown, flags=re.MULTILINE)
    if page.file.src_uri in BESIDE.values():
        return re.sub(r"\]\(docs/", "](", markdown)
    return re.sub(r"\]\(\.\./(?=[A-Z]+\.md)", "](", markdown)


def _plain_code(row):
    return CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0])


CODE = re.compile(r"`[^`]+`")
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
HEADING = re.compile(r"<th[^>]*>(.*?)</th>", re.DOTALL)
ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)
SHORT_WORD = re.compile(r"<code>(?=[^<\s]{1,24}</code>)")


def on_page_content(html, **_):
    """Each cell but a row's first says the heading of its column, for phones; short code stays whole."""
    return SHORT_WORD.sub('<code class="word">', TABLE.sub(_labelled, html))


def _labelled(table):
    headings = [re.sub(r"<[^>]+>", "", each).replace('"', "&quot;") for each in HEADING.findall(table[0])]
    return ROW.sub(lambda row: _row(row[0], headings), table[0])


def _row(row, headings):
    numbers = itertools.count()

    def cell(_):
        number = next(numbers)
        return f'<td data-is="{headings[number]}"' if number and headings[number] else "<td"

    return re.sub(r"<td(?=[ >])", cell, row)
