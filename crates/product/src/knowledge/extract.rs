//! What a file says. The readers of foreign formats are given hostile files: whoever calls this on what somebody uploaded does it
//! in a process of its own that may be lost.

use crate::knowledge::cut::Extracted;
use crate::knowledge::page;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use std::fmt;
use std::io::{Cursor, Read};

/// Most characters that are taken from one file.
pub const MOST_TEXT: usize = 2_000_000;
/// Most bytes that a part of a packed file may have when it is unpacked.
const MOST_UNPACKED: u64 = 64 << 20;
/// Most rows of a table.
const MOST_ROWS: usize = 20_000;
/// How far into a file its mark may stand.
const MARK: usize = 1_024;

/// A format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Portable Document Format: `application/pdf`.
    Pdf,
    /// A text document of Office Open XML: `.docx`.
    Docx,
    /// Plain text: `text/plain`.
    Text,
    /// Markdown: `text/markdown`.
    Markdown,
    /// A table, divided by commas, semicolons or tabs.
    Csv,
    /// A web page in HTML or XHTML.
    Html,
}

impl Format {
    /// All that can be read.
    pub const ALL: [Self; 6] = [Self::Pdf, Self::Docx, Self::Text, Self::Markdown, Self::Csv, Self::Html];

    /// Its media type, as uploads declare it.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            Self::Text => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Csv => "text/csv",
            Self::Html => "text/html",
        }
    }

    /// By its media type, parameters aside.
    pub fn of_media_type(text: &str) -> Option<Self> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/xhtml+xml" => Some(Self::Html),
            "text/x-markdown" => Some(Self::Markdown),
            "application/csv" | "text/tab-separated-values" => Some(Self::Csv),
            essence => Self::ALL.into_iter().find(|it| it.media_type() == essence),
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "pdf" => Some(Self::Pdf),
            "docx" => Some(Self::Docx),
            "txt" | "text" => Some(Self::Text),
            "md" | "markdown" => Some(Self::Markdown),
            "csv" | "tsv" => Some(Self::Csv),
            "html" | "htm" | "xhtml" => Some(Self::Html),
            _ => None,
        }
    }

    /// What a file is: as its bytes say, and among the kinds of text, as its sender or its name does. Bytes that are not what
    /// the sender says are refused.
    pub fn of(content_type: &str, name: &str, bytes: &[u8]) -> Result<Self, NoFormat> {
        let generic = matches!(
            content_type.split(';').next().unwrap_or_default().trim(),
            "" | "application/octet-stream"
        );
        let said = match Self::of_media_type(content_type) {
            None if !generic => return Err(NoFormat::NotTaken),
            Some(Self::Text) | None => Self::of_name(name).or(Self::of_media_type(content_type)),
            said => said,
        };
        let shown = match bytes {
            _ if contains(head(bytes), b"%PDF-") => Some(Self::Pdf),
            [b'P', b'K', 3, 4, ..] if is_docx(bytes) => Some(Self::Docx),
            _ => None,
        };
        match (said, shown) {
            (Some(said), Some(shown)) if said != shown => Err(NoFormat::Other),
            (_, Some(shown)) => Ok(shown),
            (Some(Self::Pdf | Self::Docx), None) => Err(NoFormat::Other),
            (_, None) if !is_text(bytes) => Err(NoFormat::NotTaken),
            (Some(said), None) => Ok(said),
            (None, None) if looks_like_html(bytes) => Ok(Self::Html),
            (None, None) => Ok(Self::Text),
        }
    }
}

/// Why a file has no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFormat {
    /// None that can be read.
    NotTaken,
    /// Another one than its sender says.
    Other,
}

impl fmt::Display for NoFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTaken => "must be PDF, DOCX, plain text, Markdown, CSV or HTML",
            Self::Other => "is not what its name or its type says",
        })
    }
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(MARK)]
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|it| it == mark)
}

/// An archive's names stand in it as they are. Its table of contents, which may be as long as the file, is for the reader's process.
fn is_docx(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"word/document.xml").is_some()
}

fn looks_like_html(bytes: &[u8]) -> bool {
    let head = head(bytes).to_ascii_lowercase();
    [b"<!doctype html".as_slice(), b"<html", b"<body", b"<head"].iter().any(|mark| contains(&head, mark))
}

fn is_text(bytes: &[u8]) -> bool {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return true; // UTF-16 by its mark.
    }
    !bytes.iter().any(|it| *it < 0x20 && !matches!(it, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
}

/// A text in whichever encoding: by its mark, UTF-8, or else what Windows wrote before.
fn decode(bytes: &[u8]) -> String {
    let encoding = match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding,
        None if std::str::from_utf8(bytes).is_ok() => encoding_rs::UTF_8,
        None => encoding_rs::WINDOWS_1252,
    };
    encoding.decode(bytes).0.into_owned()
}

/// What a file says, or why nobody can tell.
pub fn extract(format: Format, bytes: &[u8]) -> Result<Extracted, String> {
    let extracted = match format {
        Format::Pdf => Extracted::Text(pdf(bytes)?),
        Format::Docx => Extracted::Text(docx(bytes)?),
        Format::Text => Extracted::Text(plain(&decode(bytes))),
        Format::Markdown => Extracted::Text(decode(bytes)),
        Format::Csv => csv(&decode(bytes))?,
        Format::Html => Extracted::Text(page::text(&decode(bytes))),
    };
    let chars: usize = match &extracted {
        Extracted::Text(text) => text.len(),
        Extracted::Pairs(pairs) => pairs.iter().map(|(question, answer)| question.len() + answer.len()).sum(),
        Extracted::Rows(rows) => rows.iter().map(String::len).sum(),
    };
    if chars > MOST_TEXT {
        return Err(format!("It has more than {MOST_TEXT} characters; divide it."));
    }
    Ok(extracted)
}

/// A `#` at the beginning of a line of plain text is no heading.
fn plain(text: &str) -> String {
    let line = |line: &str| if line.starts_with('#') { format!(" {line}\n") } else { format!("{line}\n") };
    text.lines().map(line).collect()
}

fn pdf(bytes: &[u8]) -> Result<String, String> {
    let pages = pdf_extract::extract_text_from_mem_by_pages(bytes).map_err(|error| match error {
        pdf_extract::OutputError::PdfError(pdf_extract::Error::Decryption(_)) => {
            "The PDF is encrypted.".to_owned()
        }
        _ => "The PDF is broken or of a kind that can't be read.".to_owned(),
    })?;
    let text = pages.join("\n\n");
    if !text.chars().any(char::is_alphanumeric) {
        return Err("The PDF has no text; scanned pages can't be read.".into());
    }
    Ok(plain(&text))
}

fn docx(bytes: &[u8]) -> Result<String, String> {
    let xml = decode(&docx_part(bytes)?);
    let mut reader = Reader::from_str(&xml);
    let mut docx = Docx::default();
    loop {
        match reader.read_event().map_err(|_| BROKEN_DOCX.to_owned())? {
            Event::Eof => return Ok(docx.text),
            Event::Start(tag) => docx.start(&tag),
            Event::Empty(tag) => docx.empty(&tag),
            Event::Text(words) if docx.in_text => docx.paragraph.push_str(&words.xml10_content()),
            Event::GeneralRef(name) if docx.in_text => match name.resolve_char_ref() {
                Ok(Some(char)) => docx.paragraph.push(char),
                _ => {
                    let named = name.xml10_content();
                    docx.paragraph.push_str(resolve_predefined_entity(&named).unwrap_or_default());
                }
            },
            Event::End(tag) => docx.end(tag.local_name().as_ref()),
            _ => {}
        }
        if docx.text.len() + docx.paragraph.len() > MOST_TEXT {
            return Err(format!("It has more than {MOST_TEXT} characters; divide it."));
        }
    }
}

const BROKEN_DOCX: &str = "The document is broken.";

/// The part of a document that has its text, unpacked.
fn docx_part(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let broken = || BROKEN_DOCX.to_owned();
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|_| broken())?;
    let part = archive.by_name("word/document.xml").map_err(|_| broken())?;
    let mut xml = Vec::new();
    part.take(MOST_UNPACKED + 1).read_to_end(&mut xml).map_err(|_| broken())?;
    if xml.len() as u64 > MOST_UNPACKED {
        return Err("The document is too large when it is unpacked.".into());
    }
    Ok(xml)
}

/// What was read of a document so far.
#[derive(Default)]
struct Docx {
    text: String,
    /// The one that is being read, with the level of its heading; 0 where it is none.
    paragraph: String,
    heading: usize,
    in_text: bool,
    /// How many tables it is inside of.
    tables: u32,
    /// Cells of its row that are complete.
    cells: u32,
}

impl Docx {
    fn start(&mut self, tag: &BytesStart<'_>) {
        match tag.local_name().as_ref() {
            "t" => self.in_text = true,
            "tbl" => self.tables += 1,
            "pStyle" => self.heading = heading_level(tag),
            _ => {}
        }
    }

    fn empty(&mut self, tag: &BytesStart<'_>) {
        match tag.local_name().as_ref() {
            "pStyle" => self.heading = heading_level(tag),
            "tab" => self.paragraph.push(' '),
            "br" | "cr" => self.paragraph.push('\n'),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "tbl" => self.tables = self.tables.saturating_sub(1),
            "tc" => self.cells += 1,
            // A row of a table is a line, its cells are divided.
            "tr" => {
                self.text.push('\n');
                self.cells = 0;
            }
            "p" => self.end_paragraph(),
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        let said = self.paragraph.trim();
        if !said.is_empty() {
            match (self.tables, self.heading) {
                (0, 0) => self.text.push_str(&format!("{said}\n\n")),
                (0, level) => self.text.push_str(&format!("{} {said}\n\n", "#".repeat(level))),
                _ if self.cells > 0 => self.text.push_str(&format!(" | {said}")),
                _ => self.text.push_str(&format!("{said} ")),
            }
        }
        self.paragraph.clear();
        self.heading = 0;
    }
}

/// `Heading2`: 2. A title is a heading, other styles are not.
fn heading_level(style: &BytesStart<'_>) -> usize {
    let name = style.attributes().flatten().find(|it| it.key.local_name().as_ref() == "val");
    let name = name.map(|it| it.value.to_ascii_lowercase()).unwrap_or_default();
    match name.strip_prefix("heading").map(str::trim).and_then(|it| it.parse().ok()) {
        Some(level) => usize::clamp(level, 1, 6),
        None => usize::from(name == "title"),
    }
}

/// A table: questions with answers where its columns say so, or else each row with the names of its columns.
fn csv(text: &str) -> Result<Extracted, String> {
    let first = text.lines().next().unwrap_or_default();
    let divider =
        [b',', b';', b'\t'].into_iter().max_by_key(|it| first.bytes().filter(|byte| byte == it).count());
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(divider.unwrap_or(b','))
        .flexible(true)
        .from_reader(text.as_bytes());
    let names = reader.headers().map_err(|_| "The table can't be read.")?.clone();
    let column =
        |wanted: &[&str]| names.iter().position(|it| wanted.contains(&it.trim().to_lowercase().as_str()));
    let faq =
        column(&["question", "q", "frage", "pregunta"]).zip(column(&["answer", "a", "antwort", "respuesta"]));
    let (mut pairs, mut rows) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|_| "The table can't be read.")?;
        match faq {
            Some((question, answer)) => {
                let cell = |at| record.get(at).unwrap_or_default().trim().to_owned();
                pairs.push((cell(question), cell(answer)));
            }
            None => {
                let cells = record.iter().enumerate().filter(|(_, cell)| !cell.trim().is_empty());
                let cells = cells.map(|(at, cell)| match names.get(at).unwrap_or_default().trim() {
                    "" => cell.trim().to_owned(),
                    name => format!("{name}: {}", cell.trim()),
                });
                rows.push(cells.collect::<Vec<_>>().join("; "));
            }
        }
        if pairs.len() + rows.len() > MOST_ROWS {
            return Err(format!("The table has more than {MOST_ROWS} rows; divide it."));
        }
    }
    pairs.retain(|(question, answer)| !question.is_empty() && !answer.is_empty());
    Ok(if faq.is_some() { Extracted::Pairs(pairs) } else { Extracted::Rows(rows) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn packed(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in parts {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn document(body: &str) -> Vec<u8> {
        let xml =
            format!("<?xml version=\"1.0\"?><w:document xmlns:w=\"w\"><w:body>{body}</w:body></w:document>");
        packed(&[("[Content_Types].xml", "<Types/>"), ("word/document.xml", &xml)])
    }

    /// A PDF of one page with one line.
    fn a_pdf(line: &str) -> Vec<u8> {
        let stream = format!("BT /F1 12 Tf 72 700 Td ({line}) Tj ET");
        let objects = [
            "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>".to_owned(),
            format!("<< /Length {} >>\nstream\n{stream}\nendstream", stream.len()),
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
        ];
        let (mut file, mut places) = (String::from("%PDF-1.4\n"), Vec::new());
        for (n, object) in objects.iter().enumerate() {
            places.push(file.len());
            file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", n + 1));
        }
        let begin = file.len();
        file.push_str("xref\n0 6\n0000000000 65535 f \n");
        for place in places {
            file.push_str(&format!("{place:010} 00000 n \n"));
        }
        file.push_str(&format!("trailer << /Size 6 /Root 1 0 R >>\nstartxref\n{begin}\n%%EOF\n"));
        file.into_bytes()
    }

    fn text(format: Format, bytes: &[u8]) -> String {
        match extract(format, bytes) {
            Ok(Extracted::Text(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_without_its_surroundings() {
        let page = "<!doctype html><html><head><title>Shop</title><script>alert('no')</script><style>p{}</style></head><body>\
            <nav>Home Contact</nav><main><header><h1>Opening  <em>hours</em></h1></header><p>We open\n at <b>nine</b>.</p>\
            <div hidden>not yet</div><ul><li>Monday &amp; Tuesday</li><li>closed</li></ul>\
            <table><tr><th>Ticket</th><td>12 €</td></tr></table><p># 1 in town</p></main><footer>Imprint</footer></body></html>";
        let said = text(Format::Html, page.as_bytes());
        assert_eq!(
            said.trim(),
            "# Opening hours\n\nWe open at nine.\n\n- Monday & Tuesday\n- closed\n\nTicket | 12 € |\n\n # 1 in town"
        );
        let bare = text(Format::Html, b"<title>Just a title</title><p>One<p>Two");
        assert_eq!(bare.trim(), "# Just a title\n\nOne\n\nTwo");
        // Deep nesting neither overflows a stack nor takes for ever.
        let deep = format!("{}deep{}", "<div>".repeat(20_000), "</div>".repeat(20_000));
        assert_eq!(text(Format::Html, deep.as_bytes()).trim(), "deep");
    }

    #[test]
    fn a_document_with_headings_tables_and_references() {
        let body = "<w:p><w:pPr><w:pStyle w:val=\"Heading2\"/></w:pPr><w:r><w:t>Prices</w:t></w:r></w:p>\
            <w:p><w:r><w:t xml:space=\"preserve\">Tea &amp; cake </w:t></w:r><w:r><w:t>cost 5&#x20AC;</w:t><w:br/></w:r></w:p>\
            <w:tbl><w:tr><w:tc><w:p><w:r><w:t>Day</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>12</w:t></w:r></w:p></w:tc></w:tr></w:tbl>";
        let file = document(body);
        assert_eq!(Format::of("", "prices.docx", &file), Ok(Format::Docx));
        assert_eq!(text(Format::Docx, &file).trim(), "## Prices\n\nTea & cake cost 5€\n\nDay  | 12");
        for broken in [
            document("<w:p><w:r>"),
            document("<w:p></w:r>"),
            packed(&[("word/document.xml", "\0")]),
            vec![b'P', b'K', 3, 4, 0],
        ] {
            let _ = extract(Format::Docx, &broken);
        }
        let entities = format!(
            "<!DOCTYPE x [<!ENTITY a \"{}\">]><w:document><w:p><w:t>{}</w:t></w:p></w:document>",
            "x".repeat(1000),
            "&a;".repeat(1000)
        );
        let bomb = packed(&[("word/document.xml", &entities)]);
        assert_eq!(extract(Format::Docx, &bomb), Ok(Extracted::Text(String::new())));
        let zeros = packed(&[("word/document.xml", &" ".repeat(65 << 20))]);
        assert!(zeros.len() < 1 << 20);
        assert!(extract(Format::Docx, &zeros).unwrap_err().contains("too large"));
    }

    #[test]
    fn a_pdf_and_what_is_none() {
        let file = a_pdf("We open at nine.");
        assert_eq!(Format::of("application/pdf", "x", &file), Ok(Format::Pdf));
        assert_eq!(text(Format::Pdf, &file).trim(), "We open at nine.");
        assert!(extract(Format::Pdf, b"%PDF-1.7 nothing").is_err());
        assert!(extract(Format::Pdf, &a_pdf("")).unwrap_err().contains("no text"));
    }

    #[test]
    fn a_table_of_rows_or_of_questions() {
        let table = b"Ticket;Price\nDay;12 \xe2\x82\xac\nYear;\n";
        assert_eq!(
            extract(Format::Csv, table),
            Ok(Extracted::Rows(vec!["Ticket: Day; Price: 12 €".into(), "Ticket: Year".into()]))
        );
        let faq = "Answer,Question\n\"At nine, mostly.\",When do you open?\n,Why?\n";
        assert_eq!(
            extract(Format::Csv, faq.as_bytes()),
            Ok(Extracted::Pairs(vec![("When do you open?".into(), "At nine, mostly.".into())]))
        );
    }

    #[test]
    fn a_format_is_what_the_bytes_say() {
        let (pdf, docx) = (a_pdf("x"), document(""));
        for (media_type, name, bytes, wanted) in [
            ("application/pdf", "a.pdf", &b"hello"[..], Err(NoFormat::Other)),
            ("text/plain", "a.txt", &pdf, Err(NoFormat::Other)),
            ("", "", &pdf, Ok(Format::Pdf)),
            ("application/octet-stream", "a.docx", &docx, Ok(Format::Docx)),
            ("application/pdf", "a.pdf", &docx, Err(NoFormat::Other)),
            ("", "a.docx", b"PK\x03\x04", Err(NoFormat::Other)),
            ("", "a.zip", b"PK\x03\x04", Err(NoFormat::NotTaken)),
            ("image/png", "a.txt", b"hello", Err(NoFormat::NotTaken)),
            ("text/plain", "a.md", b"# x", Ok(Format::Markdown)),
            ("text/plain", "a", b"x", Ok(Format::Text)),
            ("text/csv; charset=utf-8", "a", b"a,b", Ok(Format::Csv)),
            ("", "", b" <!DOCTYPE HTML><p>x", Ok(Format::Html)),
            ("", "x", b"plain", Ok(Format::Text)),
            ("text/plain", "a.txt", b"\x00\x01binary", Err(NoFormat::NotTaken)),
        ] {
            assert_eq!(Format::of(media_type, name, bytes), wanted, "{media_type} {name}");
        }
        assert_eq!(text(Format::Text, b"caf\xe9"), "café\n");
        assert_eq!(text(Format::Text, b"\xff\xfec\x00a\x00"), "ca\n");
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_of_ours_panic(bytes: Vec<u8>, markup in "[<>/a-z!&;#\"= -]{0,200}", format in 2..6_usize) {
            let _ = extract(Format::ALL[format], &bytes);
            let _ = extract(Format::ALL[format], markup.as_bytes());
            let _ = extract(Format::Docx, &document(&markup));
            let _ = Format::of("", "x", &bytes);
        }
    }
}
