"""Pages of the documentation: one Markdown file per task, read by `gateway.help.pages`."""
