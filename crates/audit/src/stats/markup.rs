//! Pieces of HTML that a page is put together of.
//!
//! Invariant: text comes in as it is and goes out escaped; only charts come in as markup. Absent:
//! what stands in them.

/// A heading, a chart and its numbers; nothing without numbers.
pub(super) fn section(
    id: &str,
    heading: &str,
    chart: &str,
    header: &[&str],
    rows: Vec<Vec<String>>,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heading = escape(heading);
    let table = table(&heading, header, &rows);
    format!(
        "<section aria-labelledby=\"{id}-heading\">\n<h2 id=\"{id}-heading\">{heading}</h2>\n{chart}<details><summary>Numbers</summary>\n{table}</details>\n</section>\n"
    )
}

fn table(caption: &str, header: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = format!("<div class=\"wide\"><table><caption>{caption}</caption>\n<thead><tr>");
    for title in header {
        html.push_str(&format!("<th scope=\"col\">{}</th>", escape(title)));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            html.push_str(&match column {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td>{cell}</td>"),
            });
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// Text as it may stand in HTML and in SVG, also in an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character => escaped.push(character),
        }
    }
    escaped
}
