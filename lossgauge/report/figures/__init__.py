"""The charts of the report, one per file. Each draws one dataset: `draw(view, dataset)`.

A figure is a dictionary in plotly's JSON format: the page embeds it unchanged, and
`plotly.graph_objects.Figure(figure)` creates an object that a notebook can show and change.
"""
