"""Language models as students: templates, tables of tokens, packs, losses."""
