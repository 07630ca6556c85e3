//! From text to the terms that are searched: words in lower case, without those that say nothing, cut to their stems.

use std::collections::HashMap;
use std::sync::LazyLock;
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, SimpleTokenizer, Stemmer, StopWordFilter, TextAnalyzer,
};
use unicode_segmentation::UnicodeSegmentation;
use whatlang::Lang;

/// A longer word, in bytes, is none: nobody looks for it. Where no space stands between words, it says nothing.
const LONGEST_WORD: usize = 60;
/// From how many characters on a text says by itself in which language it is.
const TELLING: usize = 120;

/// Languages with a stemmer, by their ISO 639-1 code.
const LANGUAGES: &[(&str, Language)] = &[
    ("ar", Language::Arabic),
    ("da", Language::Danish),
    ("de", Language::German),
    ("el", Language::Greek),
    ("en", Language::English),
    ("es", Language::Spanish),
    ("fi", Language::Finnish),
    ("fr", Language::French),
    ("hu", Language::Hungarian),
    ("it", Language::Italian),
    ("nl", Language::Dutch),
    ("no", Language::Norwegian),
    ("pt", Language::Portuguese),
    ("ro", Language::Romanian),
    ("ru", Language::Russian),
    ("sv", Language::Swedish),
    ("ta", Language::Tamil),
    ("tr", Language::Turkish),
];

/// Words of questions and of courtesy, which every text has and no answer is about. The search engine's own English list
/// is the shortest of all and knows no pronoun.
const ENGLISH_COURTESY: &str = "i me my mine you your yours we us our ours he him his she her hers its them who whom whose which \
    what when where why how am were been being do does did done doing have has had having can could may might shall should would \
    must about from any some there here also just very too than so please tell know want need like let get got give find much \
    many more most long soon often kind sort way thing something anything someone anyone hi hello hey thanks thank question \
    wonder wondering possible exactly ever s t m re ve ll d don doesn didn isn aren wasn won wouldn couldn shouldn cannot";

static ANALYZERS: LazyLock<HashMap<&'static str, TextAnalyzer>> = LazyLock::new(|| {
    LANGUAGES
        .iter()
        .map(|(code, language)| {
            let courtesy = match *code {
                "en" => ENGLISH_COURTESY.split_whitespace().map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            let stop = StopWordFilter::new(*language).unwrap_or_else(|| StopWordFilter::remove(Vec::new()));
            let analyzer = TextAnalyzer::builder(SimpleTokenizer::default())
                .filter(LowerCaser)
                .filter(stop)
                .filter(StopWordFilter::remove(courtesy))
                .filter(Stemmer::new(*language))
                .filter(AsciiFoldingFilter)
                .build();
            (*code, analyzer)
        })
        .collect()
});

static PLAIN: LazyLock<TextAnalyzer> = LazyLock::new(|| {
    TextAnalyzer::builder(SimpleTokenizer::default()).filter(LowerCaser).filter(AsciiFoldingFilter).build()
});

/// The terms of a text in a language (ISO 639-1), in its order. Without a stemmer for the language, its words as they are.
pub fn terms(text: &str, language: &str) -> Vec<String> {
    let mut analyzer = ANALYZERS.get(language).unwrap_or(&PLAIN).clone();
    let mut stream = analyzer.token_stream(text);
    let mut terms = Vec::new();
    while let Some(token) = stream.next() {
        match token.text.chars().any(unspaced) {
            true => pairs(&token.text, &mut terms),
            false if token.text.len() < LONGEST_WORD => terms.push(token.text.clone()),
            false => {}
        }
    }
    terms
}

/// Scripts that put no space between words: each two characters that stand together are a term.
fn unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{0e00}'..='\u{0e7f}' | '\u{20000}'..='\u{2fa1f}')
}

fn pairs(run: &str, terms: &mut Vec<String>) {
    let chars: Vec<char> = run.chars().collect();
    match chars.len() {
        0 => {}
        1 => terms.push(run.to_owned()),
        _ => terms.extend(chars.windows(2).map(String::from_iter)),
    }
}

/// The language of a text, ISO 639-1; `fallback` where the text is too short or too mixed to tell.
pub fn language(text: &str, fallback: &str) -> String {
    told_language(text).unwrap_or(fallback).to_owned()
}

/// The language that a text tells by itself, ISO 639-1.
pub fn told_language(text: &str) -> Option<&'static str> {
    let found = whatlang::detect(text)?;
    // A script that one language writes tells it in a word.
    let by_script = matches!(found.lang(), Lang::Jpn | Lang::Cmn | Lang::Kor | Lang::Tha);
    let told = by_script || found.is_reliable() && text.chars().count() >= TELLING;
    Some(short(found.lang())).filter(|code| told && !code.is_empty())
}

fn short(language: Lang) -> &'static str {
    match language {
        Lang::Ara => "ar",
        Lang::Bul => "bg",
        Lang::Cat => "ca",
        Lang::Ces => "cs",
        Lang::Cmn => "zh",
        Lang::Dan => "da",
        Lang::Deu => "de",
        Lang::Ell => "el",
        Lang::Eng => "en",
        Lang::Est => "et",
        Lang::Fin => "fi",
        Lang::Fra => "fr",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Hrv => "hr",
        Lang::Hun => "hu",
        Lang::Ind => "id",
        Lang::Ita => "it",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        Lang::Lav => "lv",
        Lang::Lit => "lt",
        Lang::Nld => "nl",
        Lang::Nob => "no",
        Lang::Pol => "pl",
        Lang::Por => "pt",
        Lang::Ron => "ro",
        Lang::Rus => "ru",
        Lang::Slk => "sk",
        Lang::Slv => "sl",
        Lang::Spa => "es",
        Lang::Srp => "sr",
        Lang::Swe => "sv",
        Lang::Tam => "ta",
        Lang::Tha => "th",
        Lang::Tur => "tr",
        Lang::Ukr => "uk",
        Lang::Vie => "vi",
        _ => "",
    }
}

/// The sentences of a text, one line being at least one sentence.
pub fn sentences(text: &str) -> Vec<&str> {
    text.lines()
        .flat_map(str::unicode_sentences)
        .map(str::trim)
        .filter(|it| it.chars().any(char::is_alphanumeric))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_run_without_spaces_is_found_however_long_it_is() {
        let run = "本店营业时间为每天上午九点到下午六点节假日照常营业欢迎光临";
        assert!(run.len() > LONGEST_WORD);
        assert_eq!(terms(run, "zh").len(), run.chars().count() - 1);
        assert!(terms("营业时间", "zh").iter().all(|it| terms(run, "zh").contains(it)));
        assert_eq!(terms(&"x".repeat(LONGEST_WORD), "en"), Vec::<String>::new());
    }

    #[test]
    fn forms_of_a_word_are_one_term() {
        assert_eq!(terms("Where are the reservations?", "en"), terms("reservation", "en"));
        assert_eq!(terms("Öffnungszeiten", "de"), terms("die öffnungszeit", "de"));
        assert_eq!(terms("Les réservations", "fr"), terms("reservation", "fr"));
        assert_eq!(terms("営業時間", "ja"), ["営業", "業時", "時間"]);
        assert!(terms("How much do I have to?", "en").is_empty());
    }

    #[test]
    fn a_language_is_told_by_a_text_and_assumed_for_a_word() {
        let german = "Unsere Öffnungszeiten sind montags bis freitags von neun bis achtzehn Uhr, und an Feiertagen bleibt das \
                      Geschäft geschlossen, sofern nichts anderes angekündigt ist.";
        assert_eq!(language(german, "en"), "de");
        assert_eq!(language("Tennis", "en"), "en");
        assert_eq!(language("営業時間は九時からです", "en"), "ja");
    }

    proptest! {
        #[test]
        fn any_text_in_any_language_gives_terms(text in "\\PC{0,200}", language in "[a-z]{0,2}") {
            for term in terms(&text, &language) {
                prop_assert!(!term.is_empty() && !term.contains(' '));
            }
            for sentence in sentences(&text) {
                prop_assert!(text.contains(sentence));
            }
        }
    }
}
