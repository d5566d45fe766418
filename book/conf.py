"""Sphinx renders what book/build.py has laid out; nothing is executed and nothing is loaded from a network."""
project = "LF²: a compendium"
author = "The lf2 founders"
copyright = "2026, the lf2 founders"
html_title = "LF²: a compendium"
extensions = ["myst_nb", "sphinx_book_theme", "sphinx-mathjax-offline"]
root_doc = "index"
nb_execution_mode = "off"
nb_render_markdown_format = "gfm"
nb_merge_streams = True
nb_code_prompt_show = "Show code"
nb_code_prompt_hide = "Hide code"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "html_image", "linkify"]
myst_linkify_fuzzy_links = False
myst_heading_anchors = 3
myst_dmath_double_inline = True
html_theme = "sphinx_book_theme"
html_theme_options = {"show_navbar_depth": 1, "home_page_in_toc": True, "show_toc_level": 2,
                      "use_download_button": False,
                      "navigation_with_keys": False, "navbar_persistent": []}
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_copy_source = html_show_sourcelink = False
html_domain_indices = html_use_index = False
exclude_patterns = ["files"]
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]


def setup(app):
    """MathJax is looked for once and read by no page: reading side by side does it no harm."""
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True
