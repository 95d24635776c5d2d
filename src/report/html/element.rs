//! Markup that cannot be malformed: an element closes itself, and text and attribute values are escaped on their
//! way in. What comes out is HTML and well-formed XML at once.

use super::super::text::{one_line, plain};
use std::fmt::{self, Display, Formatter};

/// An element under construction.
#[derive(Debug, Clone)]
pub(super) struct Element {
    name: &'static str,
    attributes: String,
    inner: String,
}

/// An empty element of that name.
pub(super) fn el(name: &'static str) -> Element {
    Element { name, attributes: String::new(), inner: String::new() }
}

impl Element {
    /// Adds an attribute; its name is ours, its value may be anybody's.
    pub(super) fn at(mut self, name: &'static str, value: impl AsRef<str>) -> Element {
        self.attributes.push_str(&format!(" {name}=\"{}\"", escaped(&one_line(value.as_ref()))));
        self
    }

    /// Adds the attribute `class`.
    pub(super) fn class(self, value: &str) -> Element {
        self.at("class", value)
    }

    /// Adds a coordinate or a length of SVG, in hundredths at most.
    pub(super) fn len(self, name: &'static str, value: f64) -> Element {
        self.at(name, hundredths(value))
    }

    /// Adds text, of which nothing is markup.
    pub(super) fn text(mut self, text: impl AsRef<str>) -> Element {
        self.inner.push_str(&escaped(&plain(text.as_ref())));
        self
    }

    /// Adds an element.
    pub(super) fn put(mut self, child: Element) -> Element {
        child.write(&mut self.inner);
        self
    }

    /// Adds elements; an `Option` is none or one of them.
    pub(super) fn put_all(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        for child in children {
            child.write(&mut self.inner);
        }
        self
    }

    /// Adds a style sheet of ours, which holds neither `<` nor `&`.
    pub(super) fn sheet(mut self, css: &'static str) -> Element {
        debug_assert!(!css.contains(['<', '&']), "a style sheet is not escaped");
        self.inner.push_str(css);
        self
    }

    /// Whether nothing was put into it.
    pub(super) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(self.name);
        out.push_str(&self.attributes);
        // HTML closes only these by themselves, and elements of SVG; it reads `<td/>` as `<td>`.
        if self.inner.is_empty() && (VOID.contains(&self.name) || SHAPES.contains(&self.name)) {
            out.push_str("/>");
        } else {
            out.push('>');
            out.push_str(&self.inner);
            out.push_str(&format!("</{}>", self.name));
        }
        // So that a file has lines; never where a space would show.
        if BLOCKS.contains(&self.name) {
            out.push('\n');
        }
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

/// A number for SVG: at most two decimals, `0` for what is none.
pub(super) fn hundredths(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Elements of HTML that have no content and no end tag.
pub(super) const VOID: &[&str] = &["br", "hr", "link", "meta", "wbr"];
/// Elements of SVG that we leave empty.
pub(super) const SHAPES: &[&str] = &["circle", "line", "path", "polyline", "rect"];
/// Elements after which a line may end.
const BLOCKS: &[&str] = &[
    "article", "caption", "details", "div", "figure", "footer", "h1", "h2", "h3", "h4", "head", "header",
    "li", "link", "main", "meta", "nav", "ol", "p", "section", "style", "summary", "svg", "table", "tbody",
    "thead", "title", "tr", "ul",
];

/// Escapes for text and for attributes in double quotes; `plain` took out before what XML forbids.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_everywhere() {
        let hostile = "</td><script>&\"'\u{0}\u{1b}[31m\u{202e}";
        let cell = el("td").at("title", hostile).text(hostile).to_string();
        let inside = "&lt;/td&gt;&lt;script&gt;&amp;&quot;&#39;\\u{0}\\u{202e}";
        assert_eq!(cell, format!("<td title=\"{inside}\">{inside}</td>"));
    }

    #[test]
    fn only_what_html_closes_by_itself_is_closed_so() {
        assert_eq!(el("td").to_string(), "<td></td>");
        assert_eq!(el("wbr").to_string(), "<wbr/>");
        assert_eq!(el("p").put(el("b").text("x")).put_all(None).to_string(), "<p><b>x</b></p>\n");
        assert_eq!(
            el("rect").len("x", 1.005).len("y", -0.001).len("r", f64::NAN).to_string(),
            "<rect x=\"1\" y=\"0\" r=\"0\"/>"
        );
    }
}
