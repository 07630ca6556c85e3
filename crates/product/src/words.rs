//! Closed sets of words: what may stand in a row or in JSON, as a type.

/// An enum whose variants have one name each, in JSON and in rows alike, with `ALL`, `as_str`, `parse`, and `of` for a row's
/// column, where another word is [`StoreError::Inconsistent`](flowyte_store::StoreError::Inconsistent).
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        #[allow(dead_code)] // Not every set is read back or listed.
        impl $name {
            /// All words of the set, in the order in which they are declared.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in JSON and rows.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What a word stands for, if anything.
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The word of a column.
            pub(crate) fn of(row: &flowyte_store::Row, column: &str) -> Result<Self, flowyte_store::StoreError> {
                let word: String = row.get(column)?;
                Self::parse(&word)
                    .ok_or_else(|| flowyte_store::StoreError::Inconsistent(format!("column {column}: {word}")))
            }
        }
    };
}

pub(crate) use words;
