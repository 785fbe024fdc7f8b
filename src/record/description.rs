//! What a description found in an image: the facts of which build manifests are made.

use serde::{Deserialize, Serialize};

use crate::family::Piece;

/// A description: what commands printed, under a heading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub(crate) struct Description {
    /// The heading.
    pub(crate) title: String,
    /// What was printed, command by command.
    pub(crate) pieces: Vec<Said>,
}

/// What one command printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The command.
    pub(crate) run: String,
    /// Its output stands alone, without the command.
    pub(crate) bare: bool,
    /// The output without empty lines around it, and without white space at the ends of its lines.
    pub(crate) text: String,
}

/// As it stands in records: before commands were kept it was a heading and a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Whole { title: String, pieces: Vec<Said> },
    Text(String, String),
}

impl From<Written> for Description {
    fn from(written: Written) -> Self {
        match written {
            Written::Whole { title, pieces } => Self { title, pieces },
            Written::Text(title, text) => {
                Self { title, pieces: vec![Said { run: String::new(), bare: true, text }] }
            }
        }
    }
}

impl Said {
    /// What a command of a description printed, tidied.
    pub(crate) fn tidied(piece: &Piece, output: &str) -> Self {
        let lines: Vec<&str> = output.trim_matches('\n').lines().map(str::trim_end).collect();
        Self {
            run: piece.run.clone(),
            bare: piece.bare,
            text: lines.join("\n").trim_matches('\n').to_owned(),
        }
    }
}

#[cfg(test)]
impl Description {
    /// One of a single command.
    pub(crate) fn of(title: &str, run: &str, text: &str) -> Self {
        let piece = Piece { run: run.to_owned(), bare: false };
        Self { title: title.to_owned(), pieces: vec![Said::tidied(&piece, text)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_tidied_at_its_edges_and_nowhere_else() {
        let table = [
            ("\n\n a  b \n\nc\t\n\n", " a  b\n\nc"),
            ("one", "one"),
            ("  \n \n", ""),
            ("", ""),
            ("a\r\nb\r\n", "a\nb"),
        ];
        let piece = Piece { run: "true".to_owned(), bare: false };
        for (output, text) in table {
            assert_eq!(Said::tidied(&piece, output).text, text, "{output:?}");
        }
    }

    #[test]
    fn a_description_of_an_older_record_is_read() {
        let older: Description = serde_json::from_str(r#"["Apt", "bash 5"]"#).expect("older");
        assert_eq!(older.pieces, [Said { run: String::new(), bare: true, text: "bash 5".to_owned() }]);
        let now = Description::of("Apt", "apt list", "bash 5\n");
        let text = serde_json::to_string(&now).expect("JSON");
        assert_eq!(serde_json::from_str::<Description>(&text).expect("now"), now);
    }
}
