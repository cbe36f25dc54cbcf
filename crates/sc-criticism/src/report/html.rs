use std::fmt::{self, Write};

use super::{Figure, Part, Report, Table, Value};

/// Colours of both schemes, and no more layout than tables and figures need. Figures keep a white ground in the dark: they
/// are drawn for paper.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1c21;--pale:#5b5b66;--paper:#fff;--line:#d5d5dc;--head:#f2f2f6;--mark:#225ea8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6eb;--pale:#a5a5b0;--paper:#17171b;--line:#3c3c46;--head:#232329;--mark:#8ab8ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.5rem;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.7rem;line-height:1.2;margin:.2em 0 .6em}
h2{font-size:1.25rem;margin:2.2em 0 .5em;padding-top:.5em;border-top:1px solid var(--line)}
p{max-width:48rem;margin:.6em 0}
a{color:var(--mark)}
nav ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2em 1.2em}
dl{display:flex;flex-wrap:wrap;gap:.3em 2em;margin:0 0 1em}
dl div{display:flex;gap:.5em}
dt{color:var(--pale)}
dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:1em 0}
.scroll:focus-visible{outline:2px solid var(--mark)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--pale);padding-bottom:.3em}
th,td{padding:.25em .8em;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
thead th{background:var(--head)}
tbody th,thead th:first-child,td.words{text-align:left}
th{font-weight:600}
summary{cursor:pointer;color:var(--mark)}
.figures{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}
figure{margin:1em 0;max-width:100%;flex:0 1 auto}
figure svg{display:block;width:100%;height:auto;background:#fff;border:1px solid var(--line);border-radius:6px}
figcaption{color:var(--pale);font-size:.9rem;max-width:44rem;margin-top:.3em}
@media print{body{max-width:none}h2{break-after:avoid}figure,table{break-inside:avoid}}
";

/// A text in HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl Report {
    /// The report as one HTML file. It runs no script and loads nothing from anywhere.
    pub fn html(&self) -> String {
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let title = Escaped(&self.title);
        writeln!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>"
        )?;
        if !self.facts.is_empty() {
            out.push_str("<dl>\n");
            for (name, value) in &self.facts {
                let (name, value) = (Escaped(name), value.shown());
                let value = Escaped(&value);
                writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
            }
            out.push_str("</dl>\n");
        }
        self.contents(out)?;
        out.push_str("</header>\n<main>\n");
        for (k, section) in self.sections.iter().enumerate() {
            let title = Escaped(&section.title);
            writeln!(
                out,
                "<section aria-labelledby=\"s{k}\">\n<h2 id=\"s{k}\">{title}</h2>"
            )?;
            parts(out, &section.parts)?;
            out.push_str("</section>\n");
        }
        out.push_str("</main>\n</body>\n</html>\n");
        Ok(())
    }

    /// Links to the sections, if there are enough to get lost.
    fn contents(&self, out: &mut String) -> fmt::Result {
        if self.sections.len() < 3 {
            return Ok(());
        }
        out.push_str("<nav aria-label=\"Sections\"><ul>\n");
        for (k, section) in self.sections.iter().enumerate() {
            let title = Escaped(&section.title);
            writeln!(out, "<li><a href=\"#s{k}\">{title}</a></li>")?;
        }
        out.push_str("</ul></nav>\n");
        Ok(())
    }
}

/// Figures that follow each other stand side by side where there is room.
fn parts(out: &mut String, parts: &[Part]) -> fmt::Result {
    let mut in_figures = false;
    for part in parts {
        let is_figure = matches!(part, Part::Figure(_));
        if is_figure != in_figures {
            out.push_str(if is_figure {
                "<div class=\"figures\">\n"
            } else {
                "</div>\n"
            });
            in_figures = is_figure;
        }
        match part {
            Part::Text(text) => writeln!(out, "<p>{}</p>", Escaped(text))?,
            Part::Table(t) => table(out, t)?,
            Part::Figure(f) => figure(out, f)?,
        }
    }
    if in_figures {
        out.push_str("</div>\n");
    }
    Ok(())
}

fn table(out: &mut String, table: &Table) -> fmt::Result {
    let caption = Escaped(&table.caption);
    if table.folded {
        writeln!(out, "<details><summary>{caption}</summary>")?;
    }
    // A region that scrolls has to be reachable by keyboard.
    writeln!(
        out,
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n<table>\n<caption>{caption}</caption>"
    )?;
    write!(
        out,
        "<thead><tr><th scope=\"col\">{}</th>",
        Escaped(&table.of)
    )?;
    for column in &table.columns {
        write!(out, "<th scope=\"col\">{}</th>", Escaped(column))?;
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (name, values) in &table.rows {
        write!(out, "<tr><th scope=\"row\">{}</th>", Escaped(name))?;
        for value in values {
            let class = match value {
                Value::Text(_) => " class=\"words\"",
                _ => "",
            };
            write!(out, "<td{class}>{}</td>", Escaped(&value.shown()))?;
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    if table.folded {
        out.push_str("</details>\n");
    }
    Ok(())
}

fn figure(out: &mut String, figure: &Figure) -> fmt::Result {
    let alt = Escaped(&figure.alt);
    writeln!(
        out,
        "<figure>\n<svg xmlns=\"http://www.w3.org/2000/svg\" {} role=\"img\" aria-label=\"{alt}\">{}</svg>",
        figure.attributes, figure.inside
    )?;
    if !figure.caption.is_empty() {
        writeln!(out, "<figcaption>{}</figcaption>", Escaped(&figure.caption))?;
    }
    out.push_str("</figure>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        let evil = "<script>alert('x')</script> & \"more\"";
        let mut report = Report::new(evil);
        let drawing = Figure::new("<svg><g/></svg>", evil).unwrap().caption(evil);
        report.fact(evil, evil);
        report
            .section(evil)
            .text(evil)
            .table(Table::new(evil, [evil]).of(evil).row(evil, [evil]).folded())
            .figure(drawing);
        let html = report.html();
        assert!(!html.contains("<script") && !html.contains("\"more\""));
        assert_eq!(html.matches("&lt;script&gt;").count(), 15);
    }

    #[test]
    fn figures_are_grouped_and_every_tag_is_closed() {
        let drawing = || Figure::new("<svg><g/></svg>", "d").unwrap();
        let mut report = Report::new("t");
        for title in ["a", "b", "c"] {
            report
                .section(title)
                .figure(drawing())
                .figure(drawing())
                .text("x")
                .figure(drawing());
        }
        let html = report.html();
        assert_eq!(html.matches("class=\"figures\"").count(), 6);
        assert!(html.contains("href=\"#s2\""));
        for tag in [
            "div", "figure", "section", "ul", "nav", "main", "header", "html",
        ] {
            let opened = html.matches(&format!("<{tag}>")).count()
                + html.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
