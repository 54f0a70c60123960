"""The classical baseline of tables: boosted trees and linear models, blended."""
