"""The charts of the report, one in each file, for one dataset: `draw(view, dataset)`.

A figure is a dictionary in plotly's JSON format: the page embeds it as it is, and `plotly.graph_objects.Figure(figure)`
makes an object of it to show in a notebook or to change.
"""
