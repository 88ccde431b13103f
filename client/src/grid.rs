//! Tables with a frame, as JuiceFS draws them: names of columns centred, words to the left, numbers to the right.

/// A framed table.
pub(crate) struct Grid {
    header: Vec<&'static str>,
    /// Columns of words, which begin at the left.
    left: &'static [usize],
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// A table whose first column is words and whose others are numbers.
    pub(crate) fn new(header: &[&'static str]) -> Grid {
        Grid::aligned(header, &[0])
    }

    /// A table whose columns `left` are words.
    pub(crate) fn aligned(header: &[&'static str], left: &'static [usize]) -> Grid {
        Grid { header: header.to_vec(), left, rows: Vec::new() }
    }

    /// Adds a row of as many cells as the header has.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text; nothing for one without rows.
    pub(crate) fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.header[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let border: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
        let names = self.header.iter().zip(&widths).map(|(name, width)| {
            let left = (width - name.len()).div_ceil(2);
            format!("| {}{name}{} ", " ".repeat(left), " ".repeat(width - name.len() - left))
        });
        let mut text = format!("{border}+\n{}|\n{border}+\n", names.collect::<String>());
        for row in &self.rows {
            let cells =
                row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match self.left.contains(&column) {
                    true => format!("| {cell:<width$} "),
                    false => format!("| {cell:>width$} "),
                });
            text += &(cells.collect::<String>() + "|\n");
        }
        text + &border + "+\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_framed_as_by_juicefs() {
        let mut grid = Grid::new(&["Path/ID", "Size", "Inodes"]);
        assert_eq!(grid.render(), "");
        grid.row(vec!["gid:12".into(), "unchanged".into(), "2".into()]);
        let want = "\
+---------+-----------+--------+
| Path/ID |    Size   | Inodes |
+---------+-----------+--------+
| gid:12  | unchanged |      2 |
+---------+-----------+--------+
";
        assert_eq!(grid.render(), want);
    }
}
