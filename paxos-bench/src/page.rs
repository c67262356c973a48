//! What all pages for a browser share.

/// How they look.
pub(crate) const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #6b7280; --paper: #fff; --line: #d8dbe0 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e7e9; --soft: #9aa1ab; --paper: #16181b; --line: #34383e }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(25rem, 1fr)); gap: 1rem }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem }
figcaption { color: var(--soft) }
svg { width: 100%; height: auto } svg text { font-size: 12px; fill: var(--ink) }
svg .whisker { stroke: var(--ink); stroke-width: 1.2 }
.ours { fill: #c2410c } .peer { fill: #64748b } .limit { fill: #cbd0d8 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right }
th { color: var(--soft); font-weight: 600 }
th:first-child, td:first-child, td.name, th.name { text-align: left }
tr.ours td { font-weight: 600 } .scroll { overflow-x: auto } .warning { color: #c2410c }
p.soft { color: var(--soft) }
";

/// Text that cannot be taken for markup.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
