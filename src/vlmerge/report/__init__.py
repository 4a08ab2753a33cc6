"""A run's store → results.json, figures, the page, the table on the terminal, the model card. No model is needed for it."""

from vlmerge.report.card import model_card
from vlmerge.report.card_pictures import card_pictures
from vlmerge.report.card_sections import CARD, MERGED_LICENCES, Parent
from vlmerge.report.merge_card import merge_card
from vlmerge.report.results import Row, rows, write_results
from vlmerge.report.table import results_table
from vlmerge.report.write import write_report

__all__ = [
    "CARD",
    "MERGED_LICENCES",
    "Parent",
    "Row",
    "card_pictures",
    "merge_card",
    "model_card",
    "results_table",
    "rows",
    "write_report",
    "write_results",
]
