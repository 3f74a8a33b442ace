"""Title and text of HTML, without its frame."""

from __future__ import annotations

from pathlib import Path

from tests.silo_node.reading.inputs import one, reasons


def test_html_keeps_content_without_its_frame(tmp_path: Path) -> None:
    page = b"""<html><head><title>Fever &amp; chills</title><style>p {}</style></head><body>
    <header><nav>Home</nav>Logo</header><noscript>no</noscript><template><p>t</p></template>
    <p>Give 5&nbsp;mg
    now.</p><script>alert(1)</script><div>First<p>second</p>third<br>fourth</div>
    <ul><li>a &lt; b<li>c</ul><!-- comment --><footer>Imprint</footer></body></html>"""
    document = one(tmp_path / "a.html", page)
    assert document.title == "Fever & chills"
    assert document.text == ("Give 5 mg now.\n\nFirst\n\nsecond\n\nthird\nfourth\n\na < b\n\nc")


def test_heading_is_the_title_of_html_without_one(tmp_path: Path) -> None:
    document = one(tmp_path / "a.htm", b"<header><h1>Fever <i>plan</i></h1></header><p>Call us")
    assert (document.title, document.text) == ("Fever plan", "Call us")


def test_heading_that_repeats_the_title_leaves_the_text(tmp_path: Path) -> None:
    document = one(tmp_path / "a.html", b"<title>Fever</title><h1>Fever </h1><p>Call us")
    assert (document.title, document.text) == ("Fever", "Call us")


def test_heading_that_says_more_than_the_title_stays(tmp_path: Path) -> None:
    document = one(tmp_path / "a.html", b"<title>Ward 5</title><h1>Fever</h1><p>Call us")
    assert (document.title, document.text) == ("Ward 5", "# Fever\n\nCall us")


def test_headings_of_html_are_marked_as_those_of_markdown(tmp_path: Path) -> None:
    page = b"<h1>Fever</h1><h2>When <i>to</i> call</h2><p>Call us<h4>At night</h4>Wait<h3></h3>"
    document = one(tmp_path / "a.html", page)
    assert document.title == "Fever"
    assert document.text == "## When to call\n\nCall us\n\n#### At night\n\nWait"


def test_cells_of_a_table_do_not_run_into_each_other(tmp_path: Path) -> None:
    table = b"<table><tr><th>Drug<th>Dose<tr><td>A</td><td>5 mg</td></tr></table>"
    assert one(tmp_path / "a.html", table).text == "Drug | Dose\n\nA | 5 mg"


def test_charset_that_a_page_claims_does_not_matter(tmp_path: Path) -> None:
    page = '<meta charset="latin1"><p>Fièvre'.encode()
    assert one(tmp_path / "a.html", page).text == "Fièvre"


def test_page_without_content_is_empty(tmp_path: Path) -> None:
    assert reasons(tmp_path / "a.html", b"<title>x</title><nav>y</nav>") == ["empty"]
    assert reasons(tmp_path / "b.html", b"<frameset><frame></frameset>") == ["empty"]
