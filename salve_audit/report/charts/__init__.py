"""Charts as SVG, one module per kind, drawn alike in the page and in the PDF, legible without colour."""
