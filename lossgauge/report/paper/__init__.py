"""The paper's tables and figures as files: Markdown, LaTeX, CSV; PDF, SVG, PNG."""
