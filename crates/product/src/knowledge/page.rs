//! The text of an HTML page without what stands on every page around it, read as a stream of tags: there is no tree that a hostile
//! page could make too deep.

use crate::knowledge::extract::MOST_TEXT;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use std::cell::RefCell;

/// Tags and words, in their order.
#[derive(Debug)]
enum Item {
    Open { name: String, hidden: bool },
    Close(String),
    Words(StrTendril),
}

/// What is read of a page, with headings as `#` lines.
pub fn text(page: &str) -> String {
    let input = BufferQueue::default();
    input.push_back(page.into());
    let tokenizer = Tokenizer::new(Sink::default(), TokenizerOpts::default());
    let _ = tokenizer.feed(&input); // No script asks to be run, so it goes to the end.
    tokenizer.end();
    let items = tokenizer.sink.0.into_inner();
    let mut writer = Writer::default();
    let inner =
        ["main", "article", "body"].into_iter().find_map(|name| inside(&items, name)).unwrap_or(&items);
    let titled = inner.iter().any(|it| matches!(it, Item::Open { name, .. } if name == "h1"));
    if let Some(title) = inside(&items, "title").filter(|_| !titled) {
        let words =
            title.iter().filter_map(|it| if let Item::Words(words) = it { Some(&**words) } else { None });
        writer.text = format!("# {}\n\n", squeezed(&words.collect::<String>()));
    }
    for item in inner {
        writer.take(item);
        if writer.text.len() > MOST_TEXT + 1 {
            break; // Too long, which the caller says.
        }
    }
    writer.text
}

/// What stands between the first tag of a name and its last end.
fn inside<'i>(items: &'i [Item], wanted: &str) -> Option<&'i [Item]> {
    let begin = items.iter().position(|it| matches!(it, Item::Open { name, .. } if name == wanted))? + 1;
    let end = match wanted {
        "title" => items[begin..].iter().position(|it| matches!(it, Item::Close(name) if name == wanted)),
        _ => items[begin..].iter().rposition(|it| matches!(it, Item::Close(name) if name == wanted)),
    };
    Some(&items[begin..end.map_or(items.len(), |it| begin + it)])
}

#[derive(Default)]
struct Sink(RefCell<Vec<Item>>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _: u64) -> TokenSinkResult<()> {
        let item = match token {
            Token::TagToken(Tag { kind: TagKind::StartTag, name, attrs, .. }) => {
                let attribute = |wanted: &str| attrs.iter().find(|it| &*it.name.local == wanted);
                let hidden = attribute("hidden").is_some()
                    || attribute("aria-hidden").is_some_and(|it| &*it.value == "true");
                let raw = match &*name {
                    "script" => Some(RawKind::ScriptData),
                    "style" | "xmp" | "iframe" | "noembed" | "noframes" => Some(RawKind::Rawtext),
                    "title" | "textarea" => Some(RawKind::Rcdata),
                    _ => None,
                };
                self.0.borrow_mut().push(Item::Open { name: name.to_string(), hidden });
                return raw.map_or(TokenSinkResult::Continue, TokenSinkResult::RawData);
            }
            Token::TagToken(Tag { name, .. }) => Item::Close(name.to_string()),
            Token::CharacterTokens(words) => Item::Words(words),
            _ => return TokenSinkResult::Continue,
        };
        self.0.borrow_mut().push(item);
        TokenSinkResult::Continue
    }
}

#[derive(Default)]
struct Writer {
    text: String,
    heading: bool,
    /// The element that is not read, and how many of its name are open.
    skipped: Option<(String, usize)>,
}

impl Writer {
    fn take(&mut self, item: &Item) {
        if let Some((skipped, depth)) = &mut self.skipped {
            match item {
                Item::Open { name, .. } if name == skipped && ends_itself(name) => self.skipped = None,
                Item::Open { name, .. } if name == skipped => return *depth += 1,
                Item::Close(name) if name == skipped => {
                    *depth -= 1;
                    if *depth == 0 {
                        self.skipped = None;
                    }
                    return;
                }
                _ => return,
            }
        }
        match item {
            Item::Open { name, hidden } => {
                if (*hidden || unread(name)) && !is_void(name) {
                    self.skipped = Some((name.clone(), 1));
                } else {
                    self.open(name);
                }
            }
            Item::Close(name) => self.close(name),
            Item::Words(words) => self.say(words),
        }
    }

    fn open(&mut self, name: &str) {
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.end_line(2);
                let level = usize::from(name.as_bytes()[1] - b'0');
                self.text.push_str(&format!("{} ", "#".repeat(level)));
                self.heading = true;
            }
            "li" => {
                self.end_line(1);
                self.text.push_str("- ");
            }
            "br" | "tr" | "dt" | "dd" => self.end_line(1),
            name if is_block(name) => self.end_line(2),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.heading = false;
                self.end_line(2);
            }
            "td" | "th" => self.text.push_str(" | "),
            "li" | "tr" | "dt" | "dd" => self.end_line(1),
            name if is_block(name) => self.end_line(2),
            _ => {}
        }
    }

    fn say(&mut self, words: &str) {
        let space = |it: Option<char>| if it.is_some_and(char::is_whitespace) { " " } else { "" };
        let (before, after) = (space(words.chars().next()), space(words.chars().next_back()));
        let inner = squeezed(words);
        let begins = self.text.is_empty() || self.text.ends_with('\n');
        if !begins && !self.text.ends_with(' ') {
            self.text.push_str(before);
        }
        if inner.is_empty() {
            return;
        }
        if begins && inner.starts_with('#') {
            self.text.push(' '); // A text that begins like a heading is none.
        }
        self.text.push_str(&inner);
        self.text.push_str(after);
    }

    fn end_line(&mut self, lines: usize) {
        self.text.truncate(self.text.trim_end_matches(' ').len());
        if self.heading && lines < 2 {
            self.text.push(' ');
        } else if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            let there = usize::from(self.text.ends_with('\n'));
            self.text.push_str(&"\n".repeat(lines.saturating_sub(there)));
        }
    }
}

/// Space of any kind and length is one space.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Elements that say nothing to a reader of the page, or the same on every page.
fn unread(name: &str) -> bool {
    matches!(
        name,
        "script"
            | "style"
            | "noscript"
            | "template"
            | "svg"
            | "nav"
            | "footer"
            | "aside"
            | "iframe"
            | "textarea"
            | "button"
            | "select"
            | "title"
            | "dialog"
            | "canvas"
            | "video"
            | "audio"
            | "object"
            | "noembed"
            | "noframes"
            | "xmp"
    )
}

fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Elements that end where the next one of their kind begins.
fn ends_itself(name: &str) -> bool {
    matches!(name, "p" | "li" | "dt" | "dd" | "tr" | "td" | "th" | "option")
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "p" | "div"
            | "section"
            | "article"
            | "header"
            | "main"
            | "ul"
            | "ol"
            | "dl"
            | "table"
            | "blockquote"
            | "pre"
            | "figure"
            | "figcaption"
            | "hr"
            | "address"
            | "details"
            | "summary"
            | "tbody"
            | "thead"
            | "form"
    )
}
