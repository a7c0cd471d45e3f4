"""Methods as their authors' packages have them, and steps as libraries document them; for the study of cost."""
