//! How a visitor feels, estimated from single words: the same words always give the same mood. No model is asked, whichever one answers,
//! so that figures of agents can be compared. It understands nothing: "not bad" is good, irony is praise, and what is said in
//! another language is neutral. How often it is right was not measured, so whatever shows it says that it is an estimate, and
//! nothing is decided by it.

use crate::knowledge::analysis::terms;
use crate::words::words;

/// What words say of a feeling. Moods of several messages add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mood {
    /// Good words count up, bad ones down.
    pub valence: i64,
    /// Words and marks of somebody who has had enough.
    pub frustration: i64,
}

words! {
    /// A mood in a word.
    Sentiment {
        /// More good words than bad ones.
        Positive = "positive",
        /// Good and bad words weigh the same, or there are none of either.
        Neutral = "neutral",
        /// More bad words than good ones.
        Negative = "negative",
        /// Negative, and has had enough.
        Frustrated = "frustrated",
    }
}

// English, German, Spanish and French, folded to ASCII as the terms are.
const GOOD: &[&str] = &[
    "thanks",
    "thank",
    "great",
    "good",
    "nice",
    "perfect",
    "excellent",
    "helpful",
    "love",
    "lovely",
    "happy",
    "awesome",
    "wonderful",
    "amazing",
    "brilliant",
    "glad",
    "pleased",
    "cool",
    "fantastic",
    "danke",
    "gut",
    "super",
    "toll",
    "prima",
    "perfekt",
    "hilfreich",
    "freut",
    "gracias",
    "bueno",
    "bien",
    "genial",
    "perfecto",
    "excelente",
    "encanta",
    "merci",
    "bon",
    "bonne",
    "parfait",
    "utile",
    "content",
    "contente",
];
const BAD: &[&str] = &[
    "bad",
    "wrong",
    "broken",
    "terrible",
    "awful",
    "poor",
    "hate",
    "slow",
    "unhappy",
    "disappointed",
    "disappointing",
    "problem",
    "problems",
    "complaint",
    "fail",
    "failed",
    "fails",
    "error",
    "damaged",
    "late",
    "lost",
    "missing",
    "angry",
    "upset",
    "refund",
    "sad",
    "confusing",
    "confused",
    "schlecht",
    "falsch",
    "kaputt",
    "leider",
    "beschwerde",
    "enttauscht",
    "verspatet",
    "verloren",
    "argerlich",
    "malo",
    "mal",
    "roto",
    "lento",
    "queja",
    "triste",
    "perdido",
    "mauvais",
    "mauvaise",
    "casse",
    "lent",
    "probleme",
    "plainte",
    "decu",
    "decue",
    "perdu",
];
const ENOUGH: &[&str] = &[
    "ridiculous",
    "unacceptable",
    "useless",
    "frustrated",
    "frustrating",
    "annoying",
    "annoyed",
    "fed",
    "furious",
    "waste",
    "worst",
    "horrible",
    "disgusting",
    "scam",
    "nonsense",
    "unmoglich",
    "unverschamt",
    "frechheit",
    "frustriert",
    "nutzlos",
    "inaceptable",
    "inutil",
    "harto",
    "frustrado",
    "inacceptable",
    "nul",
    "marre",
    "frustre",
];
/// Turn the next good or bad word round. `t` is what is left of "don't" and "isn't".
const NOT: &[&str] =
    &["not", "no", "never", "t", "without", "nicht", "kein", "keine", "nie", "pas", "jamais", "sin", "nunca"];
/// Words after which a negation no longer counts.
const REACH: usize = 3;

impl Mood {
    /// The mood of a text.
    pub fn of(text: &str) -> Self {
        let mut mood = Self::default();
        let mut negated = 0;
        for word in terms(text, "") {
            let word = word.as_str();
            if NOT.contains(&word) {
                negated = REACH;
                continue;
            }
            let weight = match () {
                () if GOOD.contains(&word) => 1,
                () if BAD.contains(&word) => -1,
                () if ENOUGH.contains(&word) => {
                    mood.frustration += i64::from(negated == 0);
                    -2
                }
                () => 0,
            };
            mood.valence += if negated > 0 { -weight } else { weight };
            negated = if weight == 0 { negated.saturating_sub(1) } else { 0 };
        }
        mood.frustration += i64::from(text.contains("!!"));
        mood
    }

    /// -1 to 1, with three decimals.
    pub fn score(self) -> f64 {
        let valence = self.valence as f64;
        (valence / (valence * valence + 8.0).sqrt() * 1_000.0).round() / 1_000.0
    }

    /// The mood in one word, by whether good or bad words outweigh the others.
    pub fn sentiment(self) -> Sentiment {
        match self.valence {
            ..0 if self.frustration > 0 => Sentiment::Frustrated,
            ..0 => Sentiment::Negative,
            0 => Sentiment::Neutral,
            _ => Sentiment::Positive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_tell_how_somebody_feels() {
        for (text, wanted) in [
            ("Thank you, that was very helpful!", Sentiment::Positive),
            ("When do you open?", Sentiment::Neutral),
            ("My parcel is late and the box is broken.", Sentiment::Negative),
            ("This isn't good.", Sentiment::Negative),
            ("No problem, thanks", Sentiment::Positive),
            ("This is ridiculous, I want a refund!!", Sentiment::Frustrated),
            ("Das ist eine Frechheit", Sentiment::Frustrated),
            ("Merci, c'est parfait", Sentiment::Positive),
            ("C'est pas bon", Sentiment::Negative),
        ] {
            assert_eq!(Mood::of(text).sentiment(), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_score_is_within_its_bounds(text in "(\\PC| bad| thanks| not| useless!!){0,60}") {
            let score = Mood::of(&text).score();
            prop_assert!((-1.0..=1.0).contains(&score));
        }
    }
}
