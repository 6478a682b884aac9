select status, weight from {{ ref('weights') }}
