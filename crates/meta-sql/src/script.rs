//! Several statements as one text: a server is told all of them in one round trip, and does none after one that failed.
//!
//! Values are written as integers and hexadecimal digits only, so nothing a caller says is read as SQL. PostgreSQL would plan each
//! text anew, so there a script prepares the statements that its connection does not know yet, and executes them by number.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use crate::args::Value;
use crate::dialect::Dialect;
use crate::meaning::Finds;

/// Numbers of the statements that a connection has prepared for scripts: as many as there are statements of ours.
pub(crate) type Names = HashMap<String, usize>;

/// A text of several statements, and what each of them is for.
#[derive(Debug)]
pub(crate) struct Script {
    dialect: Dialect,
    sql: String,
    /// What the server answers to, in order.
    parts: Vec<Part>,
    steps: usize,
    /// Statements it prepares.
    prepares: Vec<Prepare>,
}

/// One statement of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Begins or ends the transaction.
    Frame,
    /// Comes before or after the step that it is for.
    Beside(usize),
    /// The step itself.
    Step(usize),
}

/// A statement prepared by one part.
#[derive(Debug)]
struct Prepare {
    part: usize,
    text: String,
    number: usize,
}

impl Script {
    /// An empty script.
    pub(crate) fn new(dialect: Dialect) -> Script {
        Script { dialect, sql: String::new(), parts: Vec::new(), steps: 0, prepares: Vec::new() }
    }

    /// The text.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Adds a statement that begins or ends the transaction.
    pub(crate) fn frame(&mut self, sql: &str) {
        self.part(Part::Frame, sql);
    }

    /// Adds a step, for a connection that has `names`.
    pub(crate) fn step(&mut self, names: &Names, text: &str, values: &[Value<'_>], finds: Finds) {
        match self.dialect {
            Dialect::Postgres => self.execute(names, text, values, finds),
            Dialect::MySql | Dialect::Sqlite => self.spell_out(text, values, finds),
        }
        self.steps += 1;
    }

    /// For each answer the step that it is the result of, if any.
    pub(crate) fn results(&self) -> impl ExactSizeIterator<Item = Option<usize>> {
        self.parts.iter().map(|part| match part {
            Part::Step(step) => Some(*step),
            Part::Frame | Part::Beside(_) => None,
        })
    }

    /// The step that failed where only `answers` came; `None` if the transaction could not be begun or ended.
    pub(crate) fn stopped_at(&self, answers: usize) -> Option<usize> {
        match self.parts.get(answers)? {
            Part::Step(step) | Part::Beside(step) => Some(*step),
            Part::Frame => None,
        }
    }

    /// What the connection has prepared if `answers` came.
    pub(crate) fn prepared(self, answers: usize) -> impl Iterator<Item = (String, usize)> {
        let done = self.prepares.into_iter().take_while(move |prepare| prepare.part < answers);
        done.map(|prepare| (prepare.text, prepare.number))
    }

    fn part(&mut self, part: Part, sql: &str) {
        if !self.parts.is_empty() {
            self.sql.push(';');
        }
        self.parts.push(part);
        self.sql.push_str(sql);
    }

    fn execute(&mut self, names: &Names, text: &str, values: &[Value<'_>], finds: Finds) {
        let text = match finds {
            Finds::Any => Cow::Borrowed(text),
            Finds::Some => Cow::Owned(format!("WITH found AS ({text} RETURNING 1) SELECT 1/COUNT(*) FROM found")),
        };
        let number = self.number(names, &text, values);
        self.part(Part::Step(self.steps), &format!("EXECUTE shoal_{number}"));
        for (index, value) in values.iter().enumerate() {
            self.sql.push(if index == 0 { '(' } else { ',' });
            self.value(value, ["E'\\\\x", "'"], ["convert_from(E'\\\\x", "','UTF8')"]);
        }
        if !values.is_empty() {
            self.sql.push(')');
        }
    }

    /// The number of a statement, which the script prepares if nobody has. Its parameters are of the types of `values`, always.
    fn number(&mut self, names: &Names, text: &str, values: &[Value<'_>]) -> usize {
        let ours = self.prepares.iter().find(|prepare| prepare.text == text);
        if let Some(number) = names.get(text).copied().or(ours.map(|prepare| prepare.number)) {
            return number;
        }
        let number = names.len() + self.prepares.len();
        let types = values.iter().map(|value| match value {
            Value::Int(_) => "bigint",
            Value::Bytes(_) => "bytea",
            Value::Text(_) => "text",
        });
        let types = types.collect::<Vec<_>>().join(",");
        let types = if types.is_empty() { types } else { format!("({types})") };
        self.part(Part::Beside(self.steps), &format!("PREPARE shoal_{number}{types} AS {text}"));
        self.prepares.push(Prepare { part: self.parts.len() - 1, text: text.to_owned(), number });
        number
    }

    fn spell_out(&mut self, text: &str, values: &[Value<'_>], finds: Finds) {
        self.part(Part::Step(self.steps), "");
        let mut pieces = text.split('?');
        self.sql.push_str(pieces.next().unwrap_or_default());
        for (piece, value) in pieces.zip(values) {
            self.value(value, ["X'", "'"], ["_utf8mb4 X'", "'"]);
            self.sql.push_str(piece);
        }
        if finds == Finds::Some {
            // More than the largest number there is, if no row was found.
            self.part(Part::Beside(self.steps), "SET @found=18446744073709551615+(ROW_COUNT()<1)");
        }
    }

    fn value(&mut self, value: &Value<'_>, bytes: [&str; 2], text: [&str; 2]) {
        let (around, content) = match value {
            Value::Int(value) => {
                write!(self.sql, "{value}").expect("a string takes everything");
                return;
            }
            Value::Bytes(value) => (bytes, &value[..]),
            Value::Text(value) => (text, value.as_bytes()),
        };
        self.sql.push_str(around[0]);
        for byte in content {
            for digit in [byte >> 4, byte & 0xF] {
                self.sql.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        self.sql.push_str(around[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> [Value<'static>; 3] {
        [Value::from(-5), Value::from(&b"a'\x00\\"[..]), Value::from("b';--")]
    }

    #[test]
    fn postgres_prepares_what_the_connection_does_not_know() {
        let mut script = Script::new(Dialect::Postgres);
        let names = Names::from([("SELECT 1".to_owned(), 0)]);
        script.frame("BEGIN");
        script.step(&names, "SELECT 1", &[], Finds::Any);
        script.step(&names, "DELETE FROM t WHERE a=$1 AND b=$2 AND c=$3", &values(), Finds::Some);
        script.step(&names, "SELECT 1", &[], Finds::Any);
        script.frame("COMMIT");
        assert_eq!(
            script.sql(),
            "BEGIN;EXECUTE shoal_0;PREPARE shoal_1(bigint,bytea,text) AS WITH found AS (DELETE FROM t WHERE a=$1 AND \
             b=$2 AND c=$3 RETURNING 1) SELECT 1/COUNT(*) FROM found;EXECUTE shoal_1(-5,E'\\\\x6127005c',\
             convert_from(E'\\\\x62273b2d2d','UTF8'));EXECUTE shoal_0;COMMIT"
        );
        assert_eq!(script.results().collect::<Vec<_>>(), [None, Some(0), None, Some(1), Some(2), None]);
        let stopped: Vec<_> = (0..6).map(|answers| script.stopped_at(answers)).collect();
        assert_eq!(stopped, [None, Some(0), Some(1), Some(1), Some(2), None]);
        assert_eq!(script.prepared(3).map(|(_, number)| number).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_was_not_reached_is_not_prepared() {
        let mut script = Script::new(Dialect::Postgres);
        script.step(&Names::new(), "SELECT 1", &[], Finds::Any);
        script.step(&Names::new(), "SELECT 2", &[], Finds::Any);
        script.step(&Names::new(), "SELECT 2", &[], Finds::Any);
        assert_eq!(script.sql().matches("PREPARE").count(), 2, "each once");
        assert_eq!(script.prepared(2).map(|(text, _)| text).collect::<Vec<_>>(), ["SELECT 1"]);
    }

    #[test]
    fn mysql_is_told_values_in_place() {
        let mut script = Script::new(Dialect::MySql);
        script.step(&Names::new(), "DELETE FROM t WHERE a=? AND b=? AND c=? COLLATE d", &values(), Finds::Some);
        script.frame("COMMIT");
        assert_eq!(
            script.sql(),
            "DELETE FROM t WHERE a=-5 AND b=X'6127005c' AND c=_utf8mb4 X'62273b2d2d' COLLATE d;\
             SET @found=18446744073709551615+(ROW_COUNT()<1);COMMIT"
        );
        assert_eq!(script.results().collect::<Vec<_>>(), [Some(0), None, None]);
        assert_eq!((script.stopped_at(1), script.stopped_at(2)), (Some(0), None));
    }
}
