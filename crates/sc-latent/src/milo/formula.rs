//! R's model formulas, as far as designs of experiments need them.

use crate::{Error, Result};

/// One variable of a formula.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Variable {
    /// The column of the table.
    pub(super) name: String,
    /// `factor(x)` or `C(x)`: numbers are labels.
    pub(super) factor: bool,
}

/// `~ terms`: sums of main effects and interactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Formula {
    pub(super) intercept: bool,
    /// Each term the variables that interact in it; main effects first, without repetitions. As in R the variables of a
    /// term come in the order in which the formula first names them, so that `a:b` and `b:a` are one term.
    pub(super) terms: Vec<Vec<Variable>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    /// `0` or `1`.
    Number(bool),
    Symbol(char),
}

impl Formula {
    /// Reads `~ a + b`, with `a:b` (interaction), `a*b` (both and their interaction), `0 +`, `- 1`, `+ 0` (no intercept),
    /// `factor(a)` or `C(a)`, and names in backticks.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let fail = |reason: String| Error::Formula {
            formula: text.to_owned(),
            reason,
        };
        let tokens = tokens(text).map_err(fail)?;
        let mut reader = Reader {
            tokens,
            at: 0,
            seen: Vec::new(),
        };
        let formula = reader.formula().map_err(fail)?;
        match reader.tokens.get(reader.at) {
            None => Ok(formula),
            Some(t) => Err(fail(format!(
                "it goes on with {} where + was expected",
                shown(Some(t))
            ))),
        }
    }

    /// All variables, in order of appearance.
    pub(super) fn variables(&self) -> Vec<&Variable> {
        let mut found: Vec<&Variable> = Vec::new();
        for v in self.terms.iter().flatten() {
            if !found.contains(&v) {
                found.push(v);
            }
        }
        found
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    let in_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => {}
            '~' | '+' | '-' | ':' | '*' | '(' | ')' => tokens.push(Token::Symbol(c)),
            '`' => {
                let mut name = String::new();
                loop {
                    match rest.next() {
                        Some('`') => break,
                        Some(c) => name.push(c),
                        None => return Err("a backtick is not closed".into()),
                    }
                }
                tokens.push(Token::Name(name));
            }
            c if in_name(c) => {
                let mut name = String::from(c);
                while let Some(&c) = rest.peek().filter(|c| in_name(**c)) {
                    name.push(c);
                    rest.next();
                }
                tokens.push(match name.as_str() {
                    "0" => Token::Number(false),
                    "1" => Token::Number(true),
                    n if n.starts_with(|c: char| c.is_ascii_digit()) => {
                        return Err(format!("{n} is no name; write it in backticks, `{n}`"));
                    }
                    _ => Token::Name(name),
                });
            }
            c => {
                return Err(format!(
                    "{c} is not understood; names with other characters than letters, digits, _ and . go in backticks"
                ));
            }
        }
    }
    Ok(tokens)
}

fn shown(token: Option<&Token>) -> String {
    match token {
        None => "its end".into(),
        Some(Token::Name(n)) => format!("\"{n}\""),
        Some(Token::Number(n)) => u8::from(*n).to_string(),
        Some(Token::Symbol(c)) => format!("{c}"),
    }
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// Variables, in order of appearance.
    seen: Vec<Variable>,
}

impl Reader {
    fn take(&mut self, symbol: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn formula(&mut self) -> Result<Formula, String> {
        if !self.take('~') {
            return Err("it has to begin with ~, e.g. ~ batch + condition".into());
        }
        let (mut intercept, mut terms) = (true, Vec::new());
        let mut negative = self.take('-');
        loop {
            if let Some(&Token::Number(one)) = self.tokens.get(self.at) {
                self.at += 1;
                intercept = one != negative;
            } else if negative {
                return Err("only 1 can be subtracted".into());
            } else {
                terms.extend(self.product()?);
            }
            negative = self.take('-');
            if !negative && !self.take('+') {
                break;
            }
        }
        Ok(Formula {
            intercept,
            terms: self.in_order(terms),
        })
    }

    /// Sorts the variables of each term by appearance, leaves out repetitions, and sorts terms by the number of variables;
    /// those of as many stay as written.
    fn in_order(&self, written: Vec<Vec<Variable>>) -> Vec<Vec<Variable>> {
        let mut terms: Vec<Vec<Variable>> = Vec::new();
        for mut term in written {
            term.sort_by_key(|v| self.seen.iter().position(|s| s == v));
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
        terms.sort_by_key(Vec::len);
        terms
    }

    /// `a * b * c`: each of them and all interactions.
    fn product(&mut self) -> Result<Vec<Vec<Variable>>, String> {
        let mut terms = vec![self.interaction()?];
        while self.take('*') {
            let next = self.interaction()?;
            let crossed: Vec<_> = terms.iter().map(|t| joined(t, &next)).collect();
            terms.push(next);
            terms.extend(crossed);
        }
        Ok(terms)
    }

    /// `a : b : c`.
    fn interaction(&mut self) -> Result<Vec<Variable>, String> {
        let mut term = vec![self.variable()?];
        while self.take(':') {
            let next = self.variable()?;
            term = joined(&term, &[next]);
        }
        Ok(term)
    }

    fn variable(&mut self) -> Result<Variable, String> {
        let variable = self.plain_variable()?;
        if !self.seen.contains(&variable) {
            self.seen.push(variable.clone());
        }
        Ok(variable)
    }

    fn plain_variable(&mut self) -> Result<Variable, String> {
        let token = self.tokens.get(self.at).cloned();
        let Some(Token::Name(name)) = token else {
            return Err(format!(
                "a variable was expected, and {} found",
                shown(token.as_ref())
            ));
        };
        self.at += 1;
        if !self.take('(') {
            return Ok(Variable {
                name,
                factor: false,
            });
        }
        if name != "factor" && name != "C" {
            return Err(format!(
                "{name}() is not known; make a column of it, or take factor() for numbers that are labels"
            ));
        }
        let inner = self.plain_variable()?;
        if !self.take(')') {
            return Err("a parenthesis is not closed".into());
        }
        Ok(Variable {
            name: inner.name,
            factor: true,
        })
    }
}

/// The variables of both terms, each once.
fn joined(a: &[Variable], b: &[Variable]) -> Vec<Variable> {
    let mut term = a.to_vec();
    for v in b {
        if !term.contains(v) {
            term.push(v.clone());
        }
    }
    term
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> (bool, Vec<String>) {
        let f = Formula::parse(text).unwrap();
        let name = |v: &Variable| {
            if v.factor {
                format!("f({})", v.name)
            } else {
                v.name.clone()
            }
        };
        let terms = f
            .terms
            .iter()
            .map(|t| t.iter().map(name).collect::<Vec<_>>().join(":"));
        (f.intercept, terms.collect())
    }

    #[test]
    fn formulas_are_read() {
        let is = |text, intercept, terms: &[&str]| {
            assert_eq!(
                shape(text),
                (intercept, terms.iter().map(|t| (*t).to_owned()).collect()),
                "{text}"
            );
        };
        is("~ batch + condition", true, &["batch", "condition"]);
        is("~0+condition", false, &["condition"]);
        is("~ condition - 1 + age", false, &["condition", "age"]);
        is("~ -1 + condition", false, &["condition"]);
        is("~ 1 + a", true, &["a"]);
        is("~ a + 0", false, &["a"]);
        is("~ a*b + c", true, &["a", "b", "c", "a:b"]);
        is(
            "~ a*b*c",
            true,
            &["a", "b", "c", "a:b", "a:c", "b:c", "a:b:c"],
        );
        is("~ b:a + a + a", true, &["a", "b:a"]);
        is("~ a:b + b:a", true, &["a:b"]);
        is("~ a + b:a", true, &["a", "a:b"]);
        is("~ c:b:a + a*b", true, &["a", "b", "b:a", "c:b:a"]);
        is("~ a:b:a + factor(a)", true, &["f(a)", "a:b"]);
        is(
            "~ factor(day) + `cell type`",
            true,
            &["f(day)", "cell type"],
        );
        is("~ C(cell.type)", true, &["f(cell.type)"]);
        is("~ 1", true, &[]);
        assert_eq!(Formula::parse("~ a*b").unwrap().variables().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("condition", "begin with ~"),
            ("~ a +", "its end"),
            ("~ a b", "\"b\""),
            ("~ log(a)", "log()"),
            ("~ a - b", "subtracted"),
            ("~ `a", "backtick"),
            ("~ a ^ b", "^"),
            ("~ 2a", "2a"),
            ("~ factor(a", "parenthesis"),
            ("", "begin with ~"),
        ] {
            let message = Formula::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
