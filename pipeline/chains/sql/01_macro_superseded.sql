-- An interactive issuance is a new root: the person was there, whatever token came before.
CREATE OR REPLACE TEMP MACRO superseded(interactive, op) AS interactive AND op = 'issue'
