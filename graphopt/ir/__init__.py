"""The intermediate representation: frozen SSA graphs, what each operator is, and the text form."""
