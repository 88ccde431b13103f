//! Tables for people: columns as wide as their widest cell, numbers to the right.

/// A table with a header.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str]) -> Table {
        Table { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells stay empty.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table in a frame, as JuiceFS prints its own: heads in the middle, column `left` aligned left, the others right.
    pub(crate) fn framed(&self, left: usize) -> String {
        let widths = self.widths();
        let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect::<String>() + "+\n";
        let line = |cell: &dyn Fn(usize, usize) -> String| {
            let cells = widths.iter().enumerate().map(|(column, &width)| format!("| {} ", cell(column, width)));
            cells.collect::<String>() + "|\n"
        };
        let mut text = rule.clone() + &line(&|column, width| centred(self.header[column], width)) + &rule;
        for row in &self.rows {
            text += &line(&|column, width| match row.get(column).map_or("", String::as_str) {
                cell if column == left => format!("{cell:<width$}"),
                cell => format!("{cell:>width$}"),
            });
        }
        text + &rule
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.header[column].len()]).max().unwrap_or(0)
        };
        (0..self.header.len()).map(width).collect()
    }

    /// The table as text, a line feed behind every line. The first column is aligned left, the others right.
    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells.zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let mut text = line(&mut self.header.iter().copied());
        for row in &self.rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        text
    }
}

/// `text` in the middle of `width` characters; what cannot be halved stands before it.
fn centred(text: &str, width: usize) -> String {
    let before = (width - text.len().min(width)).div_ceil(2);
    format!("{:before$}{text:<rest$}", "", rest = width - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NODE", "USED"]);
        table.row(vec!["a-long-name".into(), "1".into()]);
        table.row(vec!["b".into(), "12345".into()]);
        let frame = "+-------------+-------+\n|     NODE    |  USED |\n+-------------+-------+\n";
        let rows = "| a-long-name |     1 |\n| b           | 12345 |\n+-------------+-------+\n";
        assert_eq!(table.framed(0), format!("{frame}{rows}"));
        assert_eq!(table.render(), "NODE          USED\na-long-name      1\nb            12345\n");
    }
}
